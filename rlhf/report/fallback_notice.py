"""Say how PPO ended and whose policy it handed on: `ppo.fallback` replaces the policy of a run that a guard stopped."""

from collections.abc import Sequence
from dataclasses import replace

from rlhf.report.content import Notice, Section
from rlhf.report.wording import Numbers

NONE = "none"
COMPLETED = "completed"
LOOKS = ("validation_reward", "validation_referee")  # no guards: looks at validation prompts found no new best
ABOUT = ("ppo", "evaluation", "overoptimisation", "methods", "verdicts", "samples")  # sections on PPO's policy


def handed_on(n: Numbers) -> str | None:
    """Return the method whose policy stands in PPO's place, or None where PPO kept its own."""
    if "ppo_fallback" not in n or n["ppo_fallback"] == NONE:
        return None
    return str(n["ppo_fallback"]).upper()


def ended(n: Numbers) -> str:
    """Say how the run ended; the text goes on from "PPO"."""
    reason = n["ppo_stop_reason"]
    if reason == COMPLETED:
        return "ran to its end"
    if reason in LOOKS:
        return f"was stopped early, since validation prompts showed no new best ({n['ppo_stop_detail']})"
    return f"was stopped by the guard `{reason}` ({n['ppo_stop_detail']})"


def kept(n: Numbers) -> str:
    """Say which policy was kept."""
    other = handed_on(n)
    if other is None:
        return f"the policy of iteration {n.show('ppo_saved_iteration')} was kept"
    return f"its policy was not kept, and that of {other} was handed on in its place (`ppo.fallback`)"


def stopped(n: Numbers) -> str | None:
    """Sum up a run that did not go to its end; None for one that did."""
    if "ppo_stop_reason" not in n or n["ppo_stop_reason"] == COMPLETED:
        return None
    other = handed_on(n)
    more = ""
    if other:
        more = (
            f" What this report says of the policy PPO is true of {other}'s; PPO's course and the curve below are "
            "those of the stopped run."
        )
    return f"PPO {ended(n)}; {kept(n)}.{more}"


def limit(n: Numbers) -> str | None:
    """Say what a guard's stop means for the numbers of this run; None where no guard stopped it."""
    if "ppo_stop_reason" not in n or n["ppo_stop_reason"] in (COMPLETED, *LOOKS):
        return None
    other = handed_on(n)
    what = (
        f"what is evaluated as PPO is the policy of {other}" if other else "what is evaluated is the last policy before"
    )
    return f"PPO was stopped by a guard: {what}."


def with_notices(sections: Sequence[Section], n: Numbers) -> list[Section]:
    """Add a notice to each section on PPO's policy where a fallback policy was used."""
    other = handed_on(n)
    if other is None:
        return list(sections)
    said = {
        "ppo": f"A guard stopped PPO. This section is about that run; the policy that it handed on is {other}'s.",
        "overoptimisation": f"The marks are of the PPO run that a guard stopped, not of {other}'s policy.",
    }
    whose = f"A guard stopped PPO: wherever this section says PPO, the policy is {other}'s (`ppo.fallback`)."
    return [
        replace(one, blocks=[Notice(said.get(one.name, whose)), *one.blocks]) if one.name in ABOUT else one
        for one in sections
    ]
