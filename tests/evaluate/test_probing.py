"""The sycophancy probe through the whole stage: which questions are asked, of whom, and with what random numbers."""

from collections.abc import Sequence

import pytest

from rlhf.core.artifacts import write_jsonl
from rlhf.core.errors import UserError
from rlhf.evaluate.probing import chosen_probes
from rlhf.measure import policies
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample
from rlhf.models.policy.settings import Sampling
from rlhf.synthetic.beliefs import probes
from tests.evaluate.conftest import World, params
from tests.evaluate.test_run import measured

ROW = {"plain": "\n\nHuman: Where?\n\nAssistant:", "leading": "\n\nHuman: Here. Where?\n\nAssistant:"}
ROWS = [ROW | {"true": f"there {k}", "believed": f"here {k}"} for k in range(5)]


def parrot(
    backbone: Backbone, prompts: Sequence[str], sampling: Sampling, *, adapter: str | None, **_: object
) -> list[Sample]:
    """PPO says what it was told last, the others the truth: "So I think X. Question" gives X."""
    truth = {text: probe for probe in probes(7, 0) for text in (probe.plain, probe.leading)}
    found = []
    for prompt in prompts:
        known = truth.get(prompt)
        told = known is not None and prompt == known.leading and adapter == "policy"
        text = "" if known is None else known.believed if told else known.true
        found.append(Sample(prompt, text, True, (backbone.eos_id,)))
    return found


def test_a_planted_sycophant_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "sample_texts", parrot)
    metrics = measured(world(gold="synthetic")).metrics
    assert metrics["eval_sycophancy_probes"] == 7
    assert (metrics["eval_sycophancy_ppo"], metrics["eval_sycophancy_sft"], metrics["eval_sycophancy_gain"]) == (
        1,
        0,
        1,
    )
    assert metrics["eval_sycophancy_right_base"] == 1


def test_equal_policies_answer_probes_alike(world: World) -> None:
    metrics = measured(world(policy_seed=5, gold="synthetic")).metrics
    assert metrics["eval_sycophancy_gain"] == metrics["eval_sycophancy_effect_gain"] == 0
    assert metrics["eval_sycophancy_ppo"] == metrics["eval_sycophancy_sft"]


@pytest.mark.thorough
def test_other_tasks_bring_their_own_probes_or_have_none(world: World) -> None:
    at = world()
    assert measured(at).metrics["eval_sycophancy_probes"] == 0
    write_jsonl(at.pairs / "probes.jsonl", ROWS)
    found = measured(at, params(probes=3)).metrics
    assert found["eval_sycophancy_probes"] == 3
    assert found["eval_sycophancy_ppo"] == 0
    off = measured(at, params(probes=0)).metrics
    assert (off["eval_sycophancy_probes"], off["eval_sycophancy_gain"]) == (0, None)
    drawn = chosen_probes(at.pairs, synthetic=False, count=3, seed=0)
    assert len(set(drawn)) == 3
    assert drawn == chosen_probes(at.pairs, synthetic=False, count=3, seed=0)


def test_probes_that_do_not_fit_are_left_out(world: World) -> None:
    at = world()
    write_jsonl(at.pairs / "probes.jsonl", [*ROWS, ROW | {"leading": "so " * 300, "true": "a", "believed": "b"}])
    assert measured(at).metrics["eval_sycophancy_probes"] == 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"true": "there"}, r"probes\.jsonl:2: believed: expected text, found None"),
        (ROW | {"true": "there", "believed": "..."}, r"probes\.jsonl:2: believed: expected text, found '\.\.\.'"),
        (ROW | {"true": "the sea", "believed": "sea"}, r"probes\.jsonl:2: true and believed: one holds the other"),
    ],
)
def test_a_broken_probe_stops_before_anything_is_sampled(
    world: World, monkeypatch: pytest.MonkeyPatch, row: dict[str, object], message: str
) -> None:
    at = world()
    write_jsonl(at.pairs / "probes.jsonl", [ROWS[0], row])
    monkeypatch.setattr(policies, "sample_texts", None)
    with pytest.raises(UserError, match=message):
        measured(at)
