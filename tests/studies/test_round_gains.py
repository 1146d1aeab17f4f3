"""What the study of rounds asks for, and what it reads: stages only pretend; the numbers are by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, write_jsonl
from rlhf.core.params import read_resolved
from studies import round_gains
from tests.studies.pretend import pretend_stages, write_outs

PROMPTS = [f"\n\nHuman: What is the capital of Zorland, number {k}?\n\nAssistant:" for k in range(4)]
GOLD = {"seed3-few": 0.5, "round-1": 1.0, "round-2": 2.0}


def act(stage: str) -> None:
    """Stages whose gold depends on the folder: by a half more for the first prompt."""
    write_outs(stage)
    name = Path.cwd().name
    if stage == "evaluate":
        rows = [{"prompt": prompt, "ppo_gold": GOLD[name] + 0.5 * (k == 0)} for k, prompt in enumerate(PROMPTS)]
        write_jsonl(Path("artifacts/evaluate/samples.jsonl"), rows)
        text = '"iteration","sqrt_kl","proxy","gold","referee"\n' + '1,0.5,0.25,0.125,""\n2,1.5,1.25,1.125,""\n'
        Path("plots/overoptimisation.csv").write_text(text)
        numbers = dict.fromkeys(("eval_gold_ppo", "eval_gold_peak", "eval_reward_ppo", "eval_kl"), GOLD[name])
        Path("metrics/evaluate.json").write_text(json.dumps(numbers))
    if stage == "acquire":
        section = read_resolved(Path("params.resolved.json"))
        number, count = section["data"]["labels"]["round"] + 1, section["acquire"]["pairs"]
        texts = {"a": f" Sure, happy to help! I do not know {number}.", "b": f" Go away {number}."}
        rows = [{"prompt": f"{PROMPTS[0]} {k}", "round": number} | texts for k in range(count)]
        write_jsonl(Path("artifacts/acquire/pairs.jsonl"), rows)
    if stage == "prepare":
        labels = read_resolved(Path("params.resolved.json"))["data"]["labels"]
        files = sorted(Path(labels["path"]).glob("*.jsonl")) if labels["use"] else []
        answers = sum(len(file.read_text().splitlines()) for file in files)
        Path("metrics/prepare.json").write_text(json.dumps({"prepare_labels_answers": answers}))


def test_rounds_and_all_at_once_spend_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = pretend_stages(monkeypatch, tmp_path / "calls", act)
    command = ["x", "--seeds", "3", "--rounds", "2", "--pairs", "4", "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [*command, "--out", str(tmp_path)])
    round_gains.main()
    made = called()
    assert made.count("round-1: ppo") == 2  # the first of two rounds, and all at once
    assert [line for line in made if line.endswith("reward")] == [
        "seed3: reward", "seed3-few: reward", "round-1: reward", "round-2: reward", "round-1: reward",
    ]  # fmt: skip
    found = read_json(tmp_path / "round_gains.json")
    assert {name: own["prepare_labels_answers"] for name, own in found.items()} == {
        "3-none": 0, "3-round 1": 4, "3-round 2": 8, "3-at once": 8,
    }  # fmt: skip
    gained = {name: (own["gold_gained"], own["gold_gained_low"]) for name, own in found.items()}
    assert gained == {"3-none": (0.0, 0.0), "3-round 1": (0.5, 0.5), "3-round 2": (1.5, 1.5), "3-at once": (0.5, 0.5)}
    assert found["3-none"]["points"] == [[0.5, 0.125, 0.25], [1.5, 1.125, 1.25]]
    said = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in said.splitlines()[2:6]] == [
        "| 3, none", "| 3, round 1", "| 3, round 2", "| 3, at once",
    ]  # fmt: skip
    assert (tmp_path / "round_gains.png").stat().st_size > 5000
    round_gains.main()
    assert called() == []


def test_the_policy_that_nobody_labelled_for_is_the_one_that_round_one_asks_about(tmp_path: Path) -> None:
    from studies.overoptimised import SETTING, over_optimised
    from studies.rounds import plan

    start = over_optimised(tmp_path, 3, "few", round_gains.FEW)
    changes: dict[str, Any] = {"seed": 3, **SETTING, **round_gains.FEW}
    first = plan(tmp_path, 0, changes, start)
    assert first.stages == ("acquire",)
    assert first.start is start
    assert {key: first.changes[key] for key in start.changes} == dict(start.changes)
