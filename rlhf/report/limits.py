"""List what this run cannot tell, from what was measured and what was not."""

from collections.abc import Iterator

from rlhf.report.content import Block, Points, Section, Text
from rlhf.report.fallback_notice import limit
from rlhf.report.inputs import Inputs
from rlhf.report.next_steps import below_ceiling
from rlhf.report.wording import NO_REFEREE, referee_is_none

SMALL = 20_000_000  # parameters: a smaller model says little about the size of effects


def limits(run: Inputs) -> Section:
    """List the limits, the weightiest first."""
    return Section("limits", "Limits of this run", [Points(list(_limits(run)))])


def _limits(run: Inputs) -> Iterator[str]:
    n, resolved = run.numbers, run.resolved
    yield (
        f"One run with seed {resolved['seed']}: intervals cover the draw of prompts and responses, not the luck of "
        "training. Another seed may differ by more."
    )
    if "eval_gold_ppo" not in n:
        judges = ("people", "judge") if referee_is_none(n) else ("referee", "people", "judge")
        independent = [name for name in judges if f"eval_{name}_winrate" in n]
        yield "The truth is not known here: there is no gold reward." + (
            "" if independent else " Nothing independent was asked either: what was optimised is also what compares."
        )
    if referee_is_none(n):
        chosen = " PPO's policy was chosen by it all the same (`ppo.validation_by`)."
        yield NO_REFEREE + chosen * (n.values.get("ppo_validation_by") == "referee")
    if resolved["data"]["source"] == "synthetic":
        yield "The task and its annotators are made up: claims can be checked, but need not carry over to people."
    if (n.number("base_parameters") or SMALL) < SMALL:
        yield f"The model has {n.show('base_parameters')} parameters: effects in larger ones will differ in size."
    if not ("eval_judge_winrate" in n or "eval_people_winrate" in n):
        yield "No language model and no person has compared the replies."
    if n.number("eval_judge_malformed") or n.number("eval_judge_unasked"):
        yield (
            f"The language model's malformed answers: {n.show('eval_judge_malformed')}; questions that were not put to "
            f"it: {n.show('eval_judge_unasked')}. Its win rate is of the rest."
        )
    if below_ceiling(n):
        yield "The reward model is below its ceiling: part of what PPO climbs is its errors."
    if resolved["evaluate"]["split"] != "test":
        yield f"It was evaluated on the {resolved['evaluate']['split']} split, which settings are chosen by."
    if said := limit(n):
        yield said
    if n.number("eval_too_long"):
        yield f"{n.show('eval_too_long')} prompts did not fit and were left out."
    if resolved["ppo"]["kl_coef"] is not None:
        yield f"One setting was tried (`ppo.kl_coef` {resolved['ppo']['kl_coef']:g}): one point, not a curve."


def again(run: Inputs) -> Section:
    """Say how to reproduce the run."""
    return Section("again", "Making it again", [
        Text(
            "`dvc repro` in a clone at the same commit makes every number of this report again, and the same bytes "
            "with the same libraries and type of processor. `dvc metrics diff` and `dvc plots diff` compare it with "
            "another commit."
        ),
        *_own(run),
    ])  # fmt: skip


def _own(run: Inputs) -> list[Block]:
    if run.resolved["data"]["source"] != "files" and run.resolved["base"]["source"] != "path":
        return []
    return [Text("Your own files are not in git: keep them where `data.path` and `base.path` say.")]
