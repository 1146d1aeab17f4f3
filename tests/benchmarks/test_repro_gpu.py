"""`make repro-gpu` as a dry run on a CPU, on a machine without dvc, trl and datasets; and what it makes up."""

import json
import random
import statistics
from pathlib import Path

import pytest

from benchmarks.repro_gpu.__main__ import STAGES, STOPPED, run_stage
from benchmarks.repro_gpu.made_up import LENGTHS, SHARES, draw_length, rows, write_model
from benchmarks.repro_gpu.workspace import parsed, prepare_workspace, set_values
from rlhf.core.dag import declared, ignored
from rlhf.core.errors import UserError
from rlhf.core.yaml import read_yaml
from rlhf.models.text.load import load_model, load_tokenizer
from rlhf.models.text.tokens import encode_prompt, encode_response
from tests.benchmarks.commands import ROOT, command

# A GPU machine that the project was tried for has neither; nothing but `prepare` from a hub may need them.
BLOCK = "import sys\nfor name in ('dvc', 'trl', 'datasets'):\n    sys.modules[name] = None\n"


def test_lengths_are_those_of_the_real_pairs() -> None:
    for kind, quantiles in LENGTHS.items():
        assert [draw_length(kind, share) for share in SHARES[:-1]] == list(quantiles[:-1])
    assert draw_length("prompt", 0.375) == 65  # halfway between 28 and 102
    draw = random.Random(1)
    totals = sorted(draw_length("prompt", draw.random()) + draw_length("chosen", draw.random()) for _ in range(20000))
    assert totals[10000] == pytest.approx(162, rel=0.1)
    assert totals[18000] == pytest.approx(383, rel=0.1)


def test_one_word_is_one_token_and_replies_can_be_told_apart(tmp_path: Path) -> None:
    import torch

    write_model(tmp_path, layers=1, width=8, heads=1, vocab=103, context=16)
    assert load_model(tmp_path, dtype=torch.float32, device="cpu").num_parameters() > 0
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer) == 103
    lean: dict[str, list[float]] = {"chosen": [], "rejected": []}
    for row in rows(50, words=100, shrink=4, seed=0):
        assert len(encode_prompt(tokenizer, row["prompt"])) == len(row["prompt"].split())
        for kind, even in lean.items():
            ids = encode_response(tokenizer, row[kind])
            assert len(ids) == len(row[kind].split()) + 1
            assert tokenizer.unk_token_id not in ids
            even.append(statistics.fmean(i % 2 == 0 for i in ids[:-1]))
    assert statistics.fmean(lean["chosen"]) > 0.65
    assert statistics.fmean(lean["rejected"]) < 0.35
    assert list(rows(3, words=100, shrink=1, seed=5)) == list(rows(3, words=100, shrink=1, seed=5))


def test_values_are_set_by_dotted_key(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("ppo:\n  lr: null  # a rate\n  batch: 8\n")
    set_values(path, parsed(["ppo.lr=1.0e-5", "ppo.batch=16"]))
    assert read_yaml(path) == {"ppo": {"lr": 1e-5, "batch": 16}}
    with pytest.raises(UserError, match=r"no key ppo\.lrr"):
        set_values(path, {"ppo.lrr": 1})
    with pytest.raises(UserError, match="KEY=VALUE"):
        parsed(["ppo.lr"])


def test_what_python_compiles_in_the_work_folder_is_no_part_of_the_code(tmp_path: Path) -> None:
    """Or a stage that was stopped would look for its checkpoints elsewhere, and start anew."""
    prepare_workspace(tmp_path, {})
    out = ignored(tmp_path)
    assert out(Path("rlhf/core/__pycache__/dag.cpython-311.pyc"))
    assert not out(Path("rlhf/core/dag.py"))


def test_the_order_is_that_of_the_pipeline() -> None:
    made: set[Path] = set()
    for stage in STAGES[1:]:
        spec = declared(ROOT / "dvc.yaml", stage)
        needed = {dep for dep in spec.deps if dep.parts[0] == "artifacts"}
        assert all(any(out == dep or dep in out.parents for out in made) for dep in needed), stage
        made |= set(spec.outs)


def test_a_stage_over_its_limit_is_asked_to_stop(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "slow.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
        "time.sleep(60)\n"
    )  # fmt: skip
    status, seconds = run_stage("slow", tmp_path, 3.0)  # by then it has started, whatever else the machine does
    assert status == STOPPED
    assert 3.0 <= seconds < 59.0  # it sleeps for a minute


@pytest.mark.slow
@pytest.mark.thorough
def test_the_chain_runs_without_dvc_trl_and_datasets(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    work, out = ["--work", str(tmp_path / "work")], ["--out", str(tmp_path / "out")]
    path = {"PYTHONPATH": str(tmp_path)}
    blocked = command("timeit", "-n1", "-r1", "import datasets", check=False, **path)
    assert "ModuleNotFoundError" in blocked.stderr  # the block blocks
    command("benchmarks.repro_gpu", "--dry-run", "--piece", *STAGES[:4], *work, *out, **path)
    first = json.loads((tmp_path / "out" / "repro-gpu.json").read_text())
    assert first["complete"] is False
    done = command("benchmarks.repro_gpu", "--dry-run", *work, *out, **path)  # goes on where it was
    assert "base:" not in done.stdout
    found = json.loads((tmp_path / "out" / "repro-gpu.json").read_text())
    assert found["complete"] is True
    assert set(found["stages"]) == set(STAGES)
    assert all(own["done"] and own["seconds"] > 0 for own in found["stages"].values())
    assert found["stages"]["ppo"]["ppo_stop_reason"] == "completed"
    assert found["stages"]["base"]["base_parameters"] > 0
