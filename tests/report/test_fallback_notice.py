"""A run that its guards stopped: the page and the text say whose policy it handed on."""

import pytest
from huggingface_hub import ModelCard

from rlhf.report.build import build
from rlhf.report.cards import cards
from rlhf.report.content import Notice, Points, Text
from rlhf.report.fallback_notice import ABOUT
from rlhf.report.html import html
from rlhf.report.markdown import markdown
from tests.report.runs import Run, prices, undrawn

REASON, DETAIL = "kl_limit", "KL 120 nats, limit 100"
STOPPED: dict[str, object] = {"ppo_stop_reason": REASON, "ppo_stop_detail": DETAIL, "ppo_saved_iteration": 7}


def notices(run: Run) -> dict[str, str]:
    """Notices by their section; at most one each."""
    found = [(one.name, block) for one in build(run.read(), prices()).sections for block in one.blocks]
    texts = {name: block.text for name, block in found if isinstance(block, Notice)}
    assert len(texts) == sum(isinstance(block, Notice) for _, block in found)
    return texts


def said_of_ppo(run: Run) -> str:
    (found,) = [one for one in build(run.read(), prices()).sections if one.name == "ppo"]
    return next(block.text for block in found.blocks if isinstance(block, Text))


def test_dpos_policy_in_the_place_of_ppos_is_said_wherever_ppo_is_spoken_of(run: Run) -> None:
    run.change("ppo", **STOPPED, ppo_fallback="dpo")
    found = notices(run)
    assert set(found) == {"summary", *ABOUT}
    assert all("DPO" in text for text in found.values())
    for part in (f"`{REASON}`", DETAIL, "`ppo.fallback`"):
        assert part in found["summary"]
    report = build(run.read(), prices())
    assert html(undrawn(report)).count('<p class="notice" role="note">') == len(found)
    assert markdown(report).count("\n> **") == len(found)
    assert "iteration 7" not in said_of_ppo(run)
    (limits,) = [one for one in report.sections if one.name == "limits"]
    assert any("guard" in item and "DPO" in item for block in limits.blocks if isinstance(block, Points)
               for item in block.items)  # fmt: skip


def test_the_card_of_the_policy_says_whose_it_is(run: Run) -> None:
    run.change("ppo", **STOPPED, ppo_fallback="dpo")
    card = cards(run.read())["ppo"]
    title = next(line for line in card.splitlines() if line.startswith("# "))
    assert "DPO" in title
    assert f"{REASON}: {DETAIL}" in card
    assert ModelCard(card).data.tags == ["dpo", "lora"]


def test_a_stopped_run_without_a_fallback_keeps_its_own(run: Run) -> None:
    run.change("ppo", **STOPPED, ppo_fallback="none")
    found = notices(run)
    assert set(found) == {"summary"}
    for part in (f"`{REASON}`", DETAIL, "iteration 7"):
        assert part in found["summary"]
        assert part in said_of_ppo(run)


@pytest.mark.parametrize("reason", ["validation_reward", "validation_referee"])
def test_stopping_at_the_best_look_is_no_guard(run: Run, reason: str) -> None:
    run.change("ppo", **STOPPED | {"ppo_stop_reason": reason, "ppo_stop_detail": "3 looks without a new best"})
    text = notices(run)["summary"]
    assert "3 looks without a new best" in text
    assert "guard" not in text + said_of_ppo(run)
    run.change("ppo", ppo_stop_reason="completed")
    assert notices(run) == {}
