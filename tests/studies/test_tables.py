"""Studies of reward models, alternatives and the frontier: what stages are asked for, and what the tables say."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, write_json
from studies import alternatives, frontier, reward_variants, seeds
from studies.folder import furnish
from studies.run import PROJECT

LINEAR = {"reward_accuracy": 0.70, "reward_noise_ceiling": 0.80}


def test_the_gap_is_counted_from_the_linear_head_to_the_ceiling() -> None:
    assert reward_variants.gap({"reward_accuracy": 0.75}, LINEAR) == pytest.approx(0.5)
    assert reward_variants.gap(LINEAR, LINEAR) == 0.0
    assert reward_variants.gap({"reward_accuracy": 0.68}, LINEAR) == pytest.approx(-0.2)


def run_of(variant: str, seed: int, accuracy: float) -> dict[str, Any]:
    ends = {"reward_accuracy_low": accuracy - 0.02, "reward_accuracy_high": accuracy + 0.02}
    numbers = {"reward_accuracy": accuracy, "reward_gold_agreement": 0.8, "reward_validation_loss": 0.5, **ends}
    return {
        "variant": variant,
        "seed": seed,
        "cpu_s": 30.0 + 60 * seed,
        "reward_noise_ceiling": 0.8 + 0.1 * seed,
        **numbers,
    }


def test_the_gap_of_several_seeds_is_their_mean_each_against_its_own_linear_head() -> None:
    runs = [run_of("linear", 0, 0.7), run_of("linear", 1, 0.7), run_of("tuned", 1, 0.75), run_of("tuned", 0, 0.79)]
    rows = reward_variants.table({f"{own['variant']}-{own['seed']}": own for own in runs}).splitlines()
    assert "| 0, 1 | 0.500 / 0.500 | 0.790 / 0.750 | 0.800 / 0.800 | 58 % (90, 25) | 60 |" in rows[3]
    assert rows[-1] == "Ceiling: 0.800 (seed 0), 0.900 (seed 1)."
    alone = reward_variants.table({"tuned-0": runs[3]}).splitlines()
    assert not any("tuned" in row for row in alone), "without its linear head a variant has no gap"


@pytest.mark.thorough
def test_every_variant_is_a_real_setting(tmp_path: Path) -> None:
    """Keys exist in params.yaml, all values resolve together, and nothing upstream of the reward model is changed."""
    for variant in reward_variants.VARIANTS:
        (run,) = reward_variants.plan(tmp_path, 2, variant).runs
        assert run.start is not None
        furnish(run.start)
        furnish(run)
        assert read_json(run.resolved)["reward"]["referee_share"] == 0.0, variant


def test_a_variant_is_the_stage_itself_in_a_process_of_its_own(tmp_path: Path) -> None:
    entry = reward_variants.plan(tmp_path, 2, "last")
    (run,) = entry.runs
    assert run.start is not None
    assert (run.start.folder.name, run.start.stages) == ("seed2", ("prepare", "base", "conformance", "sft"))
    assert run.changes["reward.pooling"] == "last"
    assert (run.stages, run.measured) == (("reward",), True)
    write_json(run.folder / ".costs" / "reward.json", {"cpu_s": 7.0, "peak_memory_mb": 500.0})
    for stage in ("prepare", "base", "conformance", "sft", "reward"):
        write_json(run.folder / "metrics" / f"{stage}.json", {**LINEAR, "reward_other": 1} if stage == "reward" else {})
    assert entry.read() == {"variant": "last", "seed": 2, **LINEAR, "cpu_s": 7.0, "peak_memory_mb": 500.0}


def compared() -> dict[str, Any]:
    found: dict[str, Any] = {"compare_prompts": 600}
    for number, name in enumerate(("best_of_16", "best_of_2", "base", "ppo", "dpo", "sft")):
        for measure in ("reward", "gold", "kl", "length", "distinct2"):
            found[f"compare_{measure}_{name}"] = number / 10
        found |= {f"compare_gold_{name}_low": -1.0, f"compare_gold_{name}_high": 1.0}
    return found | {"compare_kl_bound_best_of_2": 0.193, "compare_reward_gain_dpo": 0.2, "compare_kl_exact_ppo": 0.1}


def test_alternatives_are_in_order_with_their_intervals_and_costs() -> None:
    policies = alternatives.measured(compared())
    assert list(policies) == ["sft", "ppo", "dpo", "best_of_2", "best_of_16"]
    assert policies["dpo"]["gold"] == 0.4
    assert policies["dpo"]["gold_high"] == 1.0
    costs = {
        "dpo": {"cpu_s": 90.0, "wall_s": 100.0, "peak_memory_mb": 700.0},
        "ppo": {"cpu_s": 60.0, "wall_s": 60.0, "peak_memory_mb": 600.0},  # of the pipeline, not of the alternatives
        "compare": {"cpu_s": 30.0, "wall_s": 80.0, "peak_memory_mb": 1.0},
    }
    rows = alternatives.table(policies, costs).splitlines()
    assert rows[4] == "| DPO | 0.40 (-1.00 to 1.00) | 0.40 | – | 0.40 | 0.4 | 0.400 | – | 90 | 700 |"
    assert rows[5].startswith("| best of 2 | 0.10 (-1.00 to 1.00) | 0.10 | – | 0.10 (0.19) |")
    assert rows[-1] == "Everything but SFT and PPO: 2.0 minutes of processor time, 3.0 on the clock."


def test_the_frontier_trains_each_setting_from_the_same_sft(tmp_path: Path) -> None:
    runs = frontier.plan(tmp_path, [0.1], [2.0])
    ppo, dpo = runs["ppo kl_coef=0.1"], runs["dpo beta=2"]
    assert (ppo.changes, ppo.stages) == ({"ppo.kl_coef": 0.1}, ("ppo",))
    assert (dpo.changes, dpo.stages) == ({"offline.dpo.beta": 2.0, "offline.dpo.run": True}, ("offline@dpo",))
    for run in (ppo, dpo):
        assert run.shared == dict.fromkeys(("prepare", "base", "conformance", "sft", "reward"), PROJECT)
    assert frontier.adapter(ppo) == tmp_path / "ppo-0.1/artifacts/ppo"
    assert frontier.adapter(dpo) == tmp_path / "dpo-2/artifacts/offline/dpo"


def test_the_frontier_is_drawn_and_written_down(tmp_path: Path) -> None:
    point = {"kl": 0.0, "reward": 0.0, "reward_low": -0.1, "reward_high": 0.1}
    points = {
        "sft": point,
        "ppo kl_coef=0.1": point | {"kl": 2.0},
        "best_of_n n=2": point | {"kl": 0.2, "kl_bound": 0.193},
    }
    rows = frontier.table(points).splitlines()
    assert rows[4] == "| best of 2 | 0.20 | 0.19 | 0.00 (-0.10 to 0.10) | – | – |"
    assert rows[3].startswith("| PPO, `kl_coef` 0.1 | 2.00 | – |")
    frontier.draw(tmp_path / "f.png", points)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(points)


def test_the_table_of_seeds_shows_each_interval() -> None:
    def around(name: str, value: float) -> dict[str, float]:
        return {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05}

    own = {"reward_length_baseline": 0.5, "reward_noise_ceiling": 0.8, "eval_gold_base": -0.5}
    for name, value in (("reward_accuracy", 0.7), ("eval_gold_sft", 0.4), ("eval_gold_ppo", 0.8)):
        own |= around(name, value)
    rows = seeds.table({"10": own | around("eval_gold_winrate", 0.6), "2": own | around("eval_gold_winrate", 0.65)})
    assert [row.split(" | ")[0] for row in rows.splitlines()[2:]] == ["| 2", "| 10"]
    assert "| 0.700 (0.650 to 0.750) | 0.500 | 0.800 | -0.50 / 0.40 (0.35 to 0.45) / 0.80 (0.75 to 0.85) |" in rows
    assert "| 0.650 (0.600 to 0.700) |" in rows
