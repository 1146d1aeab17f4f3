"""A run that a guard stopped hands on another policy, and says so; any other run hands on its own."""

import shutil
from pathlib import Path

import pytest

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from tests.model_fixtures import make_adapter
from tests.ppo import disk
from tests.ppo.worlds import make_params

DPO: dict[str, object] = {"fallback": "dpo", "fallback_path": "artifacts/offline/dpo"}
STOPPED: dict[str, object] = {"kl_limit": 1e-9, "lr": 2e-2}  # the first update is already too far


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    make_adapter(Layout().base, Layout().offline("dpo"), seed=11)
    return tmp_path


def run(project: Path, **changes: object) -> tuple[object, object, bytes]:
    shutil.rmtree(project / "checkpoints", ignore_errors=True)
    disk.run(project, make_params(**changes), project / "checkpoints")
    found = read_json(Layout().metrics("ppo"))
    return found["ppo_stop_reason"], found["ppo_fallback"], (Layout().ppo / "adapter_model.safetensors").read_bytes()


def test_a_stopped_run_hands_on_dpo_and_any_other_its_own(project: Path) -> None:
    dpo = (Layout().offline("dpo") / "adapter_model.safetensors").read_bytes()
    assert run(project, **DPO, **STOPPED) == ("kl_limit", "dpo", dpo)
    assert not (Layout().ppo / "value_head.safetensors").exists()  # it belongs to the policy that was not handed on
    reason, fallback, own = run(project, **STOPPED)
    assert (reason, fallback) == ("kl_limit", "none")
    assert own != dpo
    reason, fallback, own = run(project, **DPO)
    assert (reason, fallback) == ("completed", "none")
    assert own != dpo
    assert (Layout().ppo / "value_head.safetensors").exists()


def test_a_fallback_that_is_not_there_is_an_error_before_any_work(project: Path) -> None:
    (Layout().offline("dpo") / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"offline/dpo/adapter_model\.safetensors: no such file; ppo\.fallback is dpo"):
        run(project, **DPO)
    assert not Layout().ppo.exists()


def test_stopping_at_the_best_look_is_no_reason_to_fall_back(project: Path) -> None:
    looking: dict[str, object] = {"validation_every": 1, "validation_patience": 1, "lr": 0.0, "iterations": 6}
    reason, fallback, _ = run(project, **DPO, **looking)
    assert (reason, fallback) == ("validation_reward", "none")
