"""Studies run the real stages in folders of their own, and run nothing twice."""

from pathlib import Path

import pytest

from studies.chain import StageError, run_chain
from studies.seeds import table

SMALL = {"data.synthetic.prompts": 200, "data.synthetic.corpus_documents": 300, "data.synthetic.ood_prompts": 5}
PREPARE = ("resolve", "prepare")


def times_run(folder: Path) -> int:
    return (folder / "log.txt").read_text().splitlines().count("== prepare")


@pytest.mark.slow
def test_a_stage_runs_again_only_if_what_it_depends_on_changed(tmp_path: Path) -> None:
    one = tmp_path / "one"
    first = run_chain(one, SMALL, stages=PREPARE)
    assert first["prepare_prompts"] > 0
    assert run_chain(one, SMALL | {"ppo.kl_coef": 0.7}, stages=PREPARE) == first
    assert times_run(one) == 1

    other = run_chain(one, SMALL | {"seed": 5}, stages=PREPARE)
    assert times_run(one) == 2
    assert other != first


@pytest.mark.slow
def test_a_chain_starts_from_what_another_made(tmp_path: Path) -> None:
    first = run_chain(tmp_path / "one", SMALL, stages=PREPARE)
    two = tmp_path / "two"
    assert run_chain(two, SMALL, stages=PREPARE, start=tmp_path / "one") == first
    assert times_run(two) == 0
    assert (two / "artifacts/prepare/pairs/train.jsonl").is_file()


def test_a_stage_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"one: base ended with status 1: .*artifacts/prepare"):
        run_chain(tmp_path / "one", SMALL, stages=("resolve", "base"))


def test_the_table_of_seeds_shows_each_interval() -> None:
    def around(name: str, value: float) -> dict[str, float]:
        return {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05}

    own = {"reward_length_baseline": 0.5, "reward_noise_ceiling": 0.8, "eval_gold_base": -0.5}
    for name, value in (("reward_accuracy", 0.7), ("eval_gold_sft", 0.4), ("eval_gold_ppo", 0.8)):
        own |= around(name, value)
    rows = table({"10": own | around("eval_gold_winrate", 0.6), "2": own | around("eval_gold_winrate", 0.65)})
    assert [row.split(" | ")[0] for row in rows.splitlines()[2:]] == ["| 2", "| 10"]
    assert "| 0.700 (0.650 to 0.750) | 0.500 | 0.800 | -0.50 / 0.40 (0.35 to 0.45) / 0.80 (0.75 to 0.85) |" in rows
    assert "| 0.650 (0.600 to 0.700) |" in rows
