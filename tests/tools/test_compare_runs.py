"""Two runs are equal, equal but for names, or different, and then the first difference is named."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from compare_runs import main, read_renames  # noqa: E402

WEIGHTS = "artifacts/ppo/adapter_model.safetensors"
OLD = {
    WEIGHTS: b"\x00\x01weights",
    "artifacts/ppo/README.md": b"heldout, in prose",
    "artifacts/reward_heldout/head.safetensors": b"\x00\x02head",
    "artifacts/reward_heldout/none.json": b'{"heldout": false, "why": "reward.heldout_share is 0"}',
    "artifacts/rollouts/ppo.jsonl": b'{"iteration": 0, "response": " The heldout one."}\n{"iteration": 1}\n',
    "artifacts/prepare/pairs/task.json": b'{"gold": "synthetic"}',
    "artifacts/.gitignore": b"/reward_heldout",
    "metrics/evaluate.json": json.dumps(
        {"eval_heldout_ppo": 0.25, "eval_ood_heldout_winrate_low": None, "eval_rating_by": "heldout", "eval_kl": 1.5}
    ).encode(),
    "metrics/ppo.json": b'{"ppo_heldout_by": "heldout", "ppo_stop_reason": "heldout_judge", "ppo_iterations": 30}',
    "plots/ppo.csv": b"iteration,heldout_reward,score\n0,,1.5\n1,0.25,2.5\n",
    "plots/compare.csv": b"policy,heldout,heldout_winrate_low\nppo,0.5,0.25\n",
}
NEW = OLD | {
    "artifacts/referee/head.safetensors": OLD["artifacts/reward_heldout/head.safetensors"],
    "artifacts/referee/none.json": b'{"referee": false, "why": "reward.referee_share is 0"}',
    "artifacts/ppo/README.md": b"referee, in prose",
    "artifacts/.gitignore": b"/referee",
    "metrics/evaluate.json": json.dumps(
        {"eval_kl": 1.5, "eval_ood_referee_winrate_low": None, "eval_rating_by": "referee", "eval_referee_ppo": 0.25}
    ).encode(),
    "metrics/ppo.json": (
        b'{"ppo_iterations": 30, "ppo_stop_reason": "validation_referee", "ppo_validation_by": "referee"}'
    ),
    "plots/ppo.csv": b"iteration,score,validation_reward\n0,1.5,\n1,2.5,0.25\n",
    "plots/compare.csv": b"policy,referee,referee_winrate_low\nppo,0.5,0.25\n",
}
for gone in ("artifacts/reward_heldout/head.safetensors", "artifacts/reward_heldout/none.json"):
    del NEW[gone]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "before", tmp_path / "after"
    for folder, files in zip(folders, (OLD, NEW), strict=True):
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return folders


def compared(*arguments: Path | str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_run_under_new_names_is_the_same(runs: tuple[Path, Path]) -> None:
    said = compared(*runs)
    assert said.exit_code == 0, said.output
    assert "| metrics | 0 | 2 | 0 |" in said.output
    assert "| artifacts/referee | 1 | 1 | 0 |" in said.output
    assert "| plots | 0 | 2 | 0 |" in said.output
    assert said.output.splitlines()[-1] == "| all | 4 | 5 | 0 |"  # neither Markdown nor what is hidden


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (WEIGHTS, b"weights", b"weighty", "bytes differ from byte 8 on (9 and 9 bytes)"),
        (WEIGHTS, b"weights", b"weight", "bytes differ from byte 8 on (9 and 8 bytes)"),
        ("artifacts/prepare/pairs/task.json", b"synthetic", b"none", "gold: 'synthetic' before, 'none' after"),
        ("artifacts/rollouts/ppo.jsonl", b'{"iteration": 1}', b'{"iteration": 2}', "[1].iteration: 1 before, 2 after"),
        ("artifacts/rollouts/ppo.jsonl", b'{"iteration": 1}\n', b"", ": 2 items before, 1 after"),
        ("artifacts/rollouts/ppo.jsonl", b"heldout one", b"referee one", "[0].response: ' The heldout one.' before"),
        ("metrics/evaluate.json", b"0.25", b"0.26", "eval_referee_ppo: 0.25 before, 0.26 after"),
        ("metrics/evaluate.json", b"1.5", b'"1.5"', "eval_kl: 1.5 before, '1.5' after"),
        ("metrics/evaluate.json", b"eval_referee_ppo", b"eval_heldout_ppo", "eval_referee_ppo: only before"),
        ("metrics/ppo.json", b'"ppo_iterations"', b'"ppo_more": 1, "ppo_iterations"', "ppo_more: only after"),
        ("metrics/ppo.json", b"30", b"30.0", "ppo_iterations: 30 before, 30.0 after"),
        ("metrics/ppo.json", b"}", b"", "cannot be read: Expecting"),
        ("plots/ppo.csv", b"2.5,0.25", b"2.5,0.2", "validation_reward[1]: '0.25' before, '0.2' after"),
        ("plots/ppo.csv", b"score,", b"heldout_reward,", "score: only before"),
        ("plots/compare.csv", b"referee_winrate_low", b"referee", "cannot be read: compare.csv: a column"),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(runs: tuple[Path, Path], file: str, old: bytes, new: bytes, said: str) -> None:
    path = runs[1] / file
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    result = compared(*runs)
    assert result.exit_code == 1
    assert f"first difference: {file}: {said}" in result.output


def test_a_file_of_one_side_alone_is_a_difference(runs: tuple[Path, Path]) -> None:
    (runs[1] / "artifacts/referee/head.safetensors").unlink()
    (runs[1] / "plots/more.csv").write_bytes(b"a\n")
    result = compared(*runs)
    assert result.exit_code == 1
    assert f"first difference: artifacts/referee/head.safetensors: only in {runs[0]}" in result.output
    assert f"\nplots/more.csv: only in {runs[1]}" in result.output
    assert "| artifacts/referee | 0 | 1 | 1 |" in result.output


def test_a_folder_without_a_finished_run_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[1] / "artifacts")
    result = compared(*runs)
    assert result.exit_code == 2
    assert f"{runs[1]}: there is no artifacts/ppo: not a project after `dvc repro`" in result.output
    assert compared(runs[0], tmp_path / "nowhere").exit_code == 2


@pytest.mark.parametrize(
    "row", ["| `a` | `b` |", "| `a` | `b` | colour |", "| `a_*` | `b` | metric |", "| `a` | b | metric |"]
)
def test_a_broken_row_of_the_table_is_named(tmp_path: Path, row: str) -> None:
    table = tmp_path / "renames.md"
    table.write_text(f"| old | new | kind |\n|---|---|---|\n{row}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(f"{table}:3: found {row!r}")):
        read_renames(table)


def test_the_committed_table_names_what_there_is_today() -> None:
    from rlhf.core.params import dug
    from rlhf.core.yaml import read_yaml

    params, rules = read_yaml(ROOT / "params.yaml"), read_renames(ROOT / "docs" / "renames.md").rules
    names = [(pattern.pattern.replace("\\", ""), new) for pattern, new in rules["parameter"]]
    assert len(names) == 5
    for old, new in names:
        assert dug(params, new) is not None, new
        assert dug(params, old) is None, old
