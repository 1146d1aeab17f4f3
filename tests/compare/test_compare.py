"""One table: SFT and PPO as evaluate has them, alternatives by the same prompts, random numbers and scorers."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.compare.alternatives import best_of_n
from rlhf.compare.compare import Comparison, compare, read_methods, write
from rlhf.compare.table import markdown, write_table
from rlhf.core.artifacts import read_json, read_jsonl, write_json, write_metrics, write_text
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.evaluate.run import evaluate
from rlhf.measure.panel import load_panel
from rlhf.measure.policies import measure_policy
from rlhf.models.reward.best_of_n import kl_bound
from rlhf.models.reward.scoring import ADAPTER
from tests.evaluate.conftest import params
from tests.sft.helpers import cpu

OFF = {"method": "dpo", "run": False}
ROOT = Path(__file__).resolve().parents[2]


def never() -> Runtime:
    raise AssertionError("nothing is computed where no method ran")


@pytest.fixture(scope="module")
def evaluated(built: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated, once for all tests."""
    root = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(built(policy_seed=6, gold="synthetic", prompts=15, ood=6, referee=True), root)
    at = Layout(root)
    write_metrics(at.metrics("evaluate"), evaluate(at, params(), cpu()).metrics)
    write_json(at.provenance("ppo"), {"params": {"ppo": {"batch": 8, "minibatch": 4}}})
    write_text(at.plot("ppo"), "iteration,length,minibatches\n0,10.5,8\n1,9.5,6\n2,10,\n")
    return root


@pytest.fixture
def finished(evaluated: Path, tmp_path: Path) -> Layout:
    return Layout(shutil.copytree(evaluated, tmp_path / "run"))


def compared(at: Layout, **methods: dict[str, object]) -> Comparison:
    return compare(at, methods, params(), cpu, corpus_share=None)


def test_without_alternatives_it_repeats_evaluate_and_computes_nothing(finished: Layout) -> None:
    found = compare(finished, {"dpo": OFF}, params(), never, corpus_share=None)
    evaluated = read_json(finished.metrics("evaluate"))
    assert found.policies == ["base", "sft", "ppo"]
    for policy in found.policies:
        for measure in ("reward", "referee", "gold", "length", "distinct2"):
            assert found.metrics[f"compare_{measure}_{policy}"] == evaluated[f"eval_{measure}_{policy}"]
        assert found.metrics[f"compare_gold_{policy}_low"] == evaluated[f"eval_gold_{policy}_low"]
    assert found.metrics["compare_gold_winrate_ppo_high"] == evaluated["eval_gold_winrate_high"]
    assert (found.metrics["compare_kl_ppo"], found.metrics["compare_kl_sft"]) == (evaluated["eval_kl"], 0)
    assert found.metrics["compare_tokens_sampled_ppo"] == 8 * 30
    assert found.metrics["compare_tokens_trained_ppo"] == 4 * (8 * 10.5 + 6 * 9.5)


def test_and_so_quickly_that_no_torch_is_loaded() -> None:
    code = "import sys, rlhf.compare.compare, rlhf.compare.table, rlhf.offline.methods;" \
           "sys.exit('torch' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_a_method_that_made_ppos_policy_gets_ppos_numbers(finished: Layout) -> None:
    shutil.copytree(finished.ppo, finished.offline("dpo"))
    write_metrics(finished.metrics("offline_dpo"), {"offline_dpo_tokens_sampled": 0, "offline_dpo_tokens_trained": 77})
    found = compared(finished, dpo={"run": True, "kind": "adapter"}).metrics
    twins = {name: name.replace("_dpo", "_ppo") for name in found if "_dpo" in name and "tokens_" not in name}
    same = [name for name, twin in twins.items() if twin in found]
    assert len(same) > 40
    for name in same:
        assert found[name] == pytest.approx(found[twins[name]], rel=1e-5, abs=1e-9), name
    assert found["compare_tokens_trained_dpo"] == 77


def test_best_of_n_is_the_best_of_nested_samples_and_best_of_one_is_sft(finished: Layout) -> None:
    panel = load_panel(finished, {}, params(), cpu())
    prompts = [f"\n\nHuman: What is a {thing}?\n\nAssistant:" for thing in ("cat", "dog", "cow", "hen", "ant", "bee")]
    sft = measure_policy(panel, prompts, "held-out", ADAPTER)
    found = best_of_n(panel, prompts, [1, 2, 6], sft)
    one, two, six = (found[n][0] for n in (1, 2, 6))
    assert one.samples == sft.samples
    for few, more in ((one, two), (two, six)):
        assert all(b >= a - 1e-5 for a, b in zip(few.rewards, more.rewards, strict=True))
    assert sum(six.rewards) > sum(two.rewards) > sum(one.rewards)
    assert found[1][1] == [0.0] * 6
    assert all(0 < kl <= kl_bound(6) + 1e-9 for kl in found[6][1])


def test_the_bound_stands_beside_the_measured_kl(finished: Layout) -> None:
    found = compared(finished, best_of_n={"run": True, "kind": "best_of_n", "n": [1, 4]})
    assert found.policies == ["base", "sft", "ppo", "best_of_1", "best_of_4"]
    numbers = found.metrics
    assert numbers["compare_kl_bound_best_of_4"] == pytest.approx(0.6362944)
    assert 0 < numbers["compare_kl_best_of_4"] <= numbers["compare_kl_bound_best_of_4"] + 1e-9
    assert numbers["compare_rm_winrate_best_of_1"] == 0.5
    assert numbers["compare_rm_winrate_best_of_4"] > 0.5
    assert numbers["compare_tokens_per_reply_best_of_4"] == pytest.approx(4 * numbers["compare_length_sft"], rel=1e-5)
    evaluated = read_json(finished.metrics("evaluate"))
    assert numbers["compare_gold_best_of_1"] == pytest.approx(evaluated["eval_gold_sft"], rel=1e-5)
    assert len(found.samples) == params().samples
    for row in found.samples:
        assert row["best_of_1"] == row["sft"]
        assert row["best_of_4_reward"] >= row["sft_reward"]  # type: ignore[operator] # numbers
    first, second = (compared(finished, best_of_n={"run": True, "kind": "best_of_n", "n": [2]}) for _ in range(2))
    assert first == second


def test_the_table_and_the_figure(finished: Layout, tmp_path: Path) -> None:
    found = compared(finished, best_of_n={"run": True, "kind": "best_of_n", "n": [2]})
    rows = found.rows()
    assert len({tuple(row) for row in rows}) == 1  # the same columns
    write(found, tmp_path / "table")
    text = (tmp_path / "table" / "samples.md").read_text()
    assert "| # | prompt | sft | best_of_2 |" in text
    assert len(read_jsonl(tmp_path / "table" / "samples.jsonl")) == params().samples
    assert (tmp_path / "table" / "compare.png").read_bytes()[:4] == b"\x89PNG"
    lines = markdown(rows).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| base", "| sft", "| ppo", "| best_of_2"]
    assert "perplexity of the corpus" not in lines[0]  # no policy has it here
    assert len({line.count("|") for line in lines}) == 1
    one = (tmp_path / "table" / "compare.png").read_bytes()
    write_table(tmp_path / "again", rows)
    assert (tmp_path / "again" / "compare.png").read_bytes() == one


def test_what_is_missing_is_named(finished: Layout) -> None:
    with pytest.raises(UserError, match=r"offline/dpo/policy\.json: no such file"):
        read_methods(finished, ("dpo",))
    write_json(finished.metrics("evaluate"), {})
    with pytest.raises(UserError, match="no eval_reward_ppo"):
        compared(finished)
