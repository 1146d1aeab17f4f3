"""A run that its guards stopped: the page and the text say whose policy it handed on."""

import re

import pytest
from huggingface_hub import ModelCard

from rlhf.report.build import build
from rlhf.report.cards import cards
from rlhf.report.html import html
from rlhf.report.markdown import markdown
from tests.report.runs import Run, prices

STOPPED: dict[str, object] = {
    "ppo_stop_reason": "kl_limit", "ppo_stop_detail": "KL 120 nats, limit 100", "ppo_saved_iteration": 7,
}  # fmt: skip
GUARDED = "PPO was stopped by the guard `kl_limit` (KL 120 nats, limit 100)"


def written(run: Run) -> tuple[str, str]:
    report = build(run.read(), prices())
    return markdown(report), html(report)


def test_dpos_policy_in_the_place_of_ppos_is_said_wherever_ppo_is_spoken_of(run: Run) -> None:
    run.change("ppo", **STOPPED, ppo_fallback="dpo")
    text, page = written(run)
    first = text.split("## At a glance")[1].strip().splitlines()[0]
    assert first.startswith(f"{GUARDED}; its policy was not kept")
    assert "that of DPO was handed on in its place (`ppo.fallback`)" in first
    assert "iteration 7 was kept" not in text
    notice = r"^> \*\*A guard stopped PPO: wherever this section says PPO, the policy is DPO's"
    assert len(re.findall(notice, text, flags=re.MULTILINE)) == 4
    assert "This section is about that run; the policy that it handed on is DPO's" in text
    assert "what is evaluated as PPO is the policy of DPO" in text
    assert page.count('<p class="notice" role="note">') == 6
    assert "the policy is DPO&#39;s" in page


def test_the_card_of_the_policy_says_whose_it_is(run: Run) -> None:
    run.change("ppo", **STOPPED, ppo_fallback="dpo")
    card = cards(run.read())["ppo"]
    assert "# Policy aligned by DPO, in place of PPO's" in card
    assert "A guard stopped PPO (kl_limit: KL 120 nats, limit 100), and this is the policy of DPO" in card
    assert "optimised by proximal policy optimisation" not in card
    assert ModelCard(card).data.tags == ["dpo", "lora"]


def test_a_stopped_run_without_a_fallback_keeps_its_own(run: Run) -> None:
    run.change("ppo", **STOPPED, ppo_fallback="none")
    text, page = written(run)
    assert f"{GUARDED}; the policy of iteration 7 was kept." in text
    assert "what is evaluated is the last policy before" in text
    assert "handed on" not in text
    assert "notice" not in page.split("<body>")[1]


@pytest.mark.parametrize("reason", ["validation_reward", "validation_referee"])
def test_stopping_at_the_best_look_is_no_guard(run: Run, reason: str) -> None:
    run.change("ppo", **STOPPED | {"ppo_stop_reason": reason, "ppo_stop_detail": "3 looks without a new best"})
    text, _ = written(run)
    assert "PPO was stopped early, since validation prompts showed no new best (3 looks without a new best)" in text
    assert "guard" not in text.split("## Verdicts")[0]
    assert "by a guard" not in text
