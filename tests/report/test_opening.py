"""The opening: verdict, headline numbers, one curve, what to do next, each by the numbers of the run."""

import re
from typing import TypeVar

import pytest

from rlhf.diagnose.evidence import Change, Estimate
from rlhf.report.build import build
from rlhf.report.content import Block, Fact, Facts, Figure, Points, Status
from rlhf.report.html import html
from rlhf.report.markdown import markdown
from rlhf.report.next_steps import MOST
from rlhf.report.verdicts import read_findings
from tests.diagnose.made import NOTHING, SOUND, points
from tests.diagnose.made import run as evidence
from tests.report.runs import Run, prices, undrawn

# Fails for its stop reason, is suspect for the referee, and does not end.
BAD = evidence(stop_reason="kl_limit", flattery=None, beliefs=None)


def blocks(run: Run) -> list[Block]:
    return list(build(run.read(), prices()).sections[0].blocks)


B = TypeVar("B", bound=Block)


def one(found: list[Block], kind: type[B]) -> B:
    (block,) = [block for block in found if isinstance(block, kind)]
    return block


def facts(run: Run) -> list[Fact]:
    return list(one(blocks(run), Facts).items)


def test_what_a_reader_looks_for_comes_first_and_in_this_order(run: Run) -> None:
    run.diagnose(SOUND)
    kinds = [type(block) for block in blocks(run)]
    wanted = [Status, Facts, Figure, Points]
    assert [kind for kind in kinds if kind in wanted] == wanted
    page = html(undrawn(build(run.read(), prices())))
    first = page[page.index("<section") : page.index("</section>")]
    assert 'id="summary"' in first
    marks = [first.index(mark) for mark in ('class="status', 'class="facts"')]
    assert marks == sorted(marks)
    assert first.count("<svg") == 1
    opening = markdown(build(run.read(), prices())).split("\n## ")[1]
    assert opening.index("verdict") < opening.index("|---|") < opening.index("\n- ")


def test_headline_numbers_are_those_of_the_metrics(run: Run) -> None:
    found, evaluated = facts(run), run.metrics("evaluate")
    names = ["eval_gold_gain", "eval_reward_gain", "eval_gold_winrate", "eval_kl"]
    for fact, name in zip(found, names, strict=False):
        assert float(fact.value) == pytest.approx(evaluated[name], abs=0.00501)
        ends = [float(end) for end in fact.interval.split(" to ")]
        assert ends == pytest.approx([evaluated[f"{name}_low"], evaluated[f"{name}_high"]], abs=0.00501)
    assert float(found[4].value) == pytest.approx(run.metrics("reward")["reward_accuracy"], abs=0.0005)


def test_headline_numbers_say_which_way_they_moved(run: Run) -> None:
    assert facts(run)[0].remark.startswith("rose")
    run.change("evaluate", eval_gold_gain=-0.4, eval_gold_gain_low=-0.5, eval_gold_gain_high=-0.3)
    run.change("evaluate", eval_gold_winrate=0.5, eval_gold_winrate_low=0.45, eval_gold_winrate_high=0.55)
    gain, _, rate, *_ = facts(run)
    assert (gain.value, gain.remark.split(":")[0]) == ("-0.40", "fell")
    assert rate.remark.startswith("neither")


def test_without_gold_the_referee_stands_in(run: Run) -> None:
    run.change("evaluate", **{name: None for name in run.metrics("evaluate") if "gold" in name})
    path = run.at.plot("overoptimisation")
    path.write_text(path.read_text().replace("gold", "other", 1))
    found = facts(run)
    assert "referee" in found[0].label
    assert "referee" in found[2].label
    assert not any("gold" in fact.label for fact in found)
    alt = one(blocks(run), Figure).alt
    assert "referee" in alt
    assert "gold" not in alt


def test_a_referee_that_does_not_beat_length_heads_nothing(run: Run) -> None:
    run.change("evaluate", **{name: None for name in run.metrics("evaluate") if "gold" in name})
    run.change("reward", reward_referee_beats_length=False)
    path = run.at.plot("overoptimisation")
    path.write_text(path.read_text().replace("gold", "other", 1))
    assert not any("referee" in fact.label for fact in facts(run))
    assert any("by the reward model itself" in fact.label for fact in facts(run))
    assert "referee" not in one(blocks(run), Figure).alt


def test_the_curve_goes_over_the_root_of_kl_and_shows_reward_and_gold(run: Run) -> None:
    rows = [line.split(",") for line in run.at.plot("overoptimisation").read_text().replace('"', "").splitlines()]
    head, last = rows[0], max(rows[1:], key=lambda row: float(row[1]))
    alt = one(blocks(run), Figure).alt
    assert "√KL" in alt.split(".")[0]
    for name in ("proxy", "gold"):
        value = float(last[head.index(name)])
        assert f"{value:.3g} at {float(last[1]):.3g}" in alt


def test_a_sound_run_has_nothing_to_mend_and_is_told_how_to_go_on(run: Run) -> None:
    run.diagnose(SOUND)
    status, steps = one(blocks(run), Status), one(blocks(run), Points)
    assert status.state == "sound"
    assert status.items == []
    assert not any(item.startswith(("raise", "lower")) for item in steps.items)
    assert any("`ppo.kl_coef` (now 0.2)" in item for item in steps.items)
    assert any("seed=1" in item for item in steps.items)


def test_what_is_wrong_is_named_with_its_reason_and_its_remedies(run: Run) -> None:
    verdicts = run.diagnose(BAD)
    status, steps = one(blocks(run), Status), one(blocks(run), Points)
    wrong = [verdict for verdict in verdicts if verdict.state in ("failed", "suspect")]
    assert status.state == "failed"
    assert len(status.items) == len(wrong)
    for verdict in wrong:
        assert any(f"`{verdict.name}` {verdict.state}" in item and verdict.because in item for item in status.items)
    lr = run.resolved["ppo"]["lr"]
    assert steps.items[0].startswith(f"lower `ppo.lr` (now {lr:g})")
    assert "instability" in steps.items[0]


def test_one_change_that_helps_several_verdicts_is_named_once(run: Run) -> None:
    fall = [0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.7, 0.5, 0.2, 0.0]
    run.diagnose(evidence(points=points(fall), judges={"gold": Estimate(0.3, 0.25, 0.35)}, length=Change(17.0, 27.0)))
    steps = one(blocks(run), Points)
    (kl,) = [item for item in steps.items if "`ppo.kl_coef`" in item]
    assert all(name in kl for name in ("reward_hacking", "over_optimisation", "verbosity"))
    assert len(steps.items) <= MOST


def test_a_run_that_nobody_examined_is_not_called_sound(run: Run) -> None:
    run.drop("metrics/diagnose.json", "artifacts/diagnose.md")
    assert one(blocks(run), Status).state == "unknown"
    run.diagnose(NOTHING)
    assert one(blocks(run), Status).state == "unknown"
    steps = one(blocks(run), Points)
    assert not re.search("nothing stands out", steps.title, re.IGNORECASE)


def test_verdicts_that_fail_the_pipeline_are_said_to(run: Run) -> None:
    run.diagnose(BAD)
    before = one(blocks(run), Status).items
    run.resolved["diagnose"]["fail_on"] = ["instability", "sycophancy"]
    (extra,) = set(one(blocks(run), Status).items) - set(before)
    assert "instability" in extra
    assert "sycophancy" not in extra  # unknown, not failed


def test_findings_are_what_diagnose_wrote(run: Run) -> None:
    verdicts = {verdict.name: verdict for verdict in run.diagnose(BAD)}
    found = read_findings(run.at.verdicts.read_text())
    assert {one.name for one in found} == set(verdicts)
    for finding in found:
        verdict = verdicts[finding.name]  # type: ignore[index] # a name is a str there
        assert (finding.state, finding.why, finding.remedies) == (verdict.state, verdict.because, verdict.remedies)
    assert read_findings("") == []
