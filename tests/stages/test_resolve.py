"""Parameters are checked as a whole before any work: one line for each fault, naming file and key."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf.core.errors import UserError
from rlhf.core.yaml import read_yaml
from rlhf.params import RENAMED, Params, notes, resolve
from stages.resolve import main

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    """Set values, or make new keys. Comments are lost: to keep them takes a quarter of a second."""
    value = read_yaml(path)
    for dotted, new in changes.items():
        *parents, last = dotted.split("__")
        place = value
        for parent in parents:
            place = place[parent]
        place[last] = new
    path.write_text(json.dumps(value))  # JSON is YAML too


def leaves(value: object, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, f"{key}.{name}" if key else name)]
    return [key]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_resolves_and_pins_its_sources(project: Path, profile: str) -> None:
    edit(project / "params.yaml", profile=profile)
    found = resolve(project / "params.yaml", project / "profiles")
    assert notes(found) == []
    resolved = found.model_dump()
    for section in (resolved["base"], resolved["data"]):
        if section["source"] == "hub":
            revision = section.get("revision") or section["hub"]["revision"]
            assert re.fullmatch(r"[0-9a-f]{40}", revision)


def test_the_profiles_of_the_charter_are_there() -> None:
    assert set(PROFILES) == {
        "gpt2", "llama-3.2-1b", "own", "pythia-160m", "pythia-70m", "qwen2.5-0.5b", "smollm2", "tiny", "tinyllama"
    }  # fmt: skip


def test_every_knob_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    bare = [line for line in lines if re.match(r"\s*[a-z_]+:", line) and "#" not in line]
    assert bare == []


def test_params_yaml_and_schema_name_the_same_knobs() -> None:
    mine = read_yaml(ROOT / "params.yaml")
    resolved = resolve(ROOT / "params.yaml", ROOT / "profiles")
    assert set(mine) == set(Params.model_fields)
    extra = set(leaves(mine)) - set(leaves(resolved.model_dump()))
    assert {leaf for leaf in extra if "columns" not in leaf} == set()


def test_the_file_wins_over_the_profile_and_null_gives_way(project: Path) -> None:
    edit(project / "params.yaml", ppo__kl_coef=0.123)
    assert resolve(project / "params.yaml", project / "profiles").ppo.kl_coef == 0.123
    edit(project / "params.yaml", ppo__kl_coef=None)
    expected = read_yaml(project / "profiles" / "tiny.yaml")["ppo"]["kl_coef"]
    assert resolve(project / "params.yaml", project / "profiles").ppo.kl_coef == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ppo__kl_coeff": 0.1}, ["ppo.kl_coeff", "unknown key", "kl_coef"]),
        ({"ppo__kl_coef": "abc"}, ["ppo.kl_coef", "'abc'", "number"]),
        ({"ppo__kl_coef": -1.0}, ["ppo.kl_coef", "-1.0", "greater than or equal to 0"]),
        ({"seed": 1.5}, ["seed", "1.5", "integer"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"profile": "gpt3"}, ["profile", "'gpt3'", "gpt2"]),
        ({"runtime__device": "tpu"}, ["runtime.device", "'tpu'", "cpu"]),
        ({"data__on_bad_row": "ignore"}, ["data.on_bad_row", "'ignore'", "skip"]),
        ({"sft__lora__rank": 0}, ["sft.lora.rank", "0"]),
        ({"data__min_tokens": 600}, ["data.min_tokens"]),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(project: Path, change: dict[str, object], words: list[str]) -> None:
    edit(project / "params.yaml", **change)
    with pytest.raises(UserError) as caught:
        resolve(project / "params.yaml", project / "profiles")
    for word in ["params.yaml", *words]:
        assert word in str(caught.value)


def test_a_misspelt_key_in_a_profile_is_an_error_too(project: Path) -> None:
    edit(project / "profiles" / "tiny.yaml", ppo__kl_coeff=1.0)
    with pytest.raises(UserError, match=r"tiny\.yaml: ppo\.kl_coeff: unknown key"):
        resolve(project / "params.yaml", project / "profiles")


def test_a_minibatch_that_does_not_divide_the_batch(project: Path) -> None:
    edit(project / "params.yaml", ppo__batch=10, ppo__minibatch=4)
    with pytest.raises(UserError, match=r"(?s)ppo.*4.*10|ppo.*10.*4"):
        resolve(project / "params.yaml", project / "profiles")


def command(project: Path) -> subprocess.CompletedProcess[str]:
    """The stage as a user starts it, in an environment that holds nothing else."""
    return subprocess.run(
        [sys.executable, "-m", "stages.resolve"],
        capture_output=True,
        text=True,
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )


def test_the_command_prints_one_line_and_no_traceback(project: Path) -> None:
    edit(project / "params.yaml", ppo__kl_coef="abc")
    done = command(project)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not (project / "params.resolved.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ppo__fallback": "dpo"}, "ppo.fallback_path: found 'artifacts/sft'; with ppo.fallback dpo it must be"),
        (
            {"ppo__fallback": "dpo", "ppo__fallback_path": "artifacts/offline/dpo"},
            "ppo.fallback: found 'dpo', which needs offline.dpo.run: true",
        ),
        ({"ppo__fallback_path": "artifacts/offline/dpo"}, "with ppo.fallback none it must be artifacts/sft"),
        ({"ppo__fallback": "rrhf"}, "ppo.fallback"),
    ],
)
def test_a_fallback_needs_its_policy(project: Path, changes: dict[str, object], message: str) -> None:
    edit(project / "params.yaml", **changes)
    with pytest.raises(UserError, match=re.escape(message)):
        resolve(project / "params.yaml", project / "profiles")


def test_dpo_may_be_fallen_back_on(project: Path) -> None:
    edit(
        project / "params.yaml", ppo__fallback="dpo", ppo__fallback_path="artifacts/offline/dpo", offline__dpo__run=True
    )
    assert resolve(project / "params.yaml", project / "profiles").ppo.fallback == "dpo"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"referee__backbone": "inputs/encoder", "referee__function": "own:score"},
            "referee.backbone: found 'inputs/encoder' beside referee.function 'own:score', and one referee judges",
        ),
        (
            {"referee__backbone": "inputs/encoder", "reward__referee_share": 0.0},
            "referee.backbone: found 'inputs/encoder' with reward.referee_share 0, which leaves it no pairs",
        ),
        (
            {"referee__backbone": "artifacts/base"},
            "found 'artifacts/base', which a stage makes; allowed: artifacts/sft",
        ),
        ({"referee__backbone": ""}, "referee.backbone"),
        ({"referee__backbone": None}, "referee.backbone"),
        ({"referee__backbone": 3}, "referee.backbone"),
    ],
)
def test_a_referee_stands_on_one_thing(project: Path, changes: dict[str, object], message: str) -> None:
    edit(project / "params.yaml", **changes)
    with pytest.raises(UserError, match=re.escape(message)):
        resolve(project / "params.yaml", project / "profiles")


@pytest.mark.parametrize("backbone", ["artifacts/sft", "./artifacts/sft"])
def test_the_sft_backbone_is_no_encoder(project: Path, backbone: str) -> None:
    edit(project / "params.yaml", referee__backbone=backbone, referee__function="own:score")
    assert resolve(project / "params.yaml", project / "profiles").referee.encoder is None


def test_an_encoder_is_tried_before_any_stage_works_for_it(
    project: Path, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = shutil.copytree(tiny_encoder_dir, project / "encoder")
    edit(project / "params.yaml", referee__backbone="encoder")
    assert resolve(project / "params.yaml", project / "profiles").referee.encoder == Path("encoder")
    monkeypatch.chdir(project)
    done = CliRunner().invoke(main, [])
    assert (done.exit_code, done.output) == (0, "")
    Path("params.resolved.json").unlink()
    (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")
    done = CliRunner().invoke(main, [])
    assert (done.exit_code, done.output) == (
        1,
        "error: referee.backbone: encoder: weights only as pytorch_model.bin, which is pickle; convert them to "
        "safetensors\n",
    )
    assert not Path("params.resolved.json").exists()


def test_sampling_otherwise_than_ppo_is_noted_and_allowed(project: Path) -> None:
    edit(project / "params.yaml", ppo__temperature=0.7, evaluate__temperature=0.7, sft__sample_tokens=9)
    done = command(project)
    assert done.returncode == 0
    starts = [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert starts == [
        "sft.sample_tokens is 9 and ppo.response_tokens 36",
        "sft.sample_temperature is 1 and ppo.temperature 0.7",
        "reward.temperature is 1 and ppo.temperature 0.7",
        "offline.shared.temperature is 1 and ppo.temperature 0.7",
    ]
    assert (project / "params.resolved.json").is_file()


@pytest.mark.parametrize("old", sorted(RENAMED))
@pytest.mark.parametrize("name", ["params.yaml", "profiles/tiny.yaml"])
def test_a_renamed_key_is_told_its_new_name(project: Path, old: str, name: str) -> None:
    edit(project / name, **{old.replace(".", "__"): 1})
    with pytest.raises(UserError, match=rf"{name}: {old}: renamed; it is {RENAMED[old]} now"):
        resolve(project / "params.yaml", project / "profiles")


def test_new_names_are_keys_of_params_yaml_and_old_ones_are_not() -> None:
    names = set(leaves(read_yaml(ROOT / "params.yaml")))
    assert set(RENAMED.values()) <= names
    assert not set(RENAMED) & names


def test_a_renamed_value_is_told_its_new_name(project: Path) -> None:
    edit(project / "params.yaml", ppo__validation_by="heldout")
    with pytest.raises(UserError, match=r"ppo\.validation_by: 'heldout' is called 'referee' now"):
        resolve(project / "params.yaml", project / "profiles")


def test_a_backslash_n_in_the_template_is_noticed(project: Path) -> None:
    edit(project / "params.yaml", data__prompt_template="Human: {prompt}\\nAssistant:")
    with pytest.raises(UserError, match=r"data.prompt_template: found a backslash and an n"):
        resolve(project / "params.yaml", project / "profiles")
