"""What to change for each verdict, by parameter name and in order of promise."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from rlhf.diagnose.params import VerdictName

Resolved = Mapping[str, object]


class Remedy(NamedTuple):
    """One thing to do. `key` is a dotted name of params.yaml; empty for what no parameter does."""

    does: Literal["raise", "lower", "set", "look at", "do"]
    key: str
    why: str


REMEDIES: Mapping[VerdictName, tuple[Remedy, ...]] = {
    "reward_hacking": (
        Remedy("raise", "ppo.kl_coef", "the policy stays where the reward model has seen replies like its own"),
        Remedy("lower", "ppo.iterations", "the gap between reward model and judges grows with every one"),
        Remedy("raise", "reward.members", "with reward.aggregate: worst, what one head likes by mistake counts less"),
        Remedy("look at", "data.path", "artifacts/evaluate/samples.md shows what is rewarded; do annotators want it?"),
    ),
    "over_optimisation": (
        Remedy("raise", "ppo.kl_coef", "the way ends before the peak is passed"),
        Remedy("set", "ppo.validation_every", "to 5: the best policy on held-out prompts is kept, not the last"),
        Remedy("lower", "ppo.iterations", "to about where the independent judge had its peak"),
        Remedy("raise", "reward.members", "an ensemble is harder to exploit; reward.aggregate: worst or uncertainty"),
    ),
    "verbosity": (
        Remedy("look at", "data.path", "metrics/prepare.json: prepare_longer_chosen far from .5 is the annotators'"),
        Remedy("raise", "ppo.kl_coef", "length moves less"),
        Remedy("lower", "ppo.response_tokens", "a bound on what can be said"),
    ),
    "mode_collapse": (
        Remedy("raise", "ppo.temperature", "towards 1: what is never sampled is never learnt"),
        Remedy("raise", "ppo.kl_coef", "the KL penalty is what keeps entropy up"),
        Remedy("lower", "ppo.lr", "fewer steps into one corner"),
        Remedy("lower", "ppo.epochs", "each batch sharpens the policy less"),
    ),
    "instability": (
        Remedy("lower", "ppo.lr", "by 3 to 10: updates were larger than the clip is meant for"),
        Remedy("set", "ppo.approx_kl_stop", "to 0.02: an update that goes too far is broken off"),
        Remedy("lower", "ppo.epochs", "later passes over a batch move furthest from it"),
        Remedy("raise", "ppo.batch", "less noise in each step"),
        Remedy("lower", "ppo.max_grad_norm", "spikes count less"),
    ),
    "sycophancy": (
        Remedy("look at", "data.path", "do annotators prefer replies that agree with them or praise them?"),
        Remedy("raise", "ppo.kl_coef", "a habit of the reward model is followed less far"),
        Remedy("lower", "ppo.iterations", "the same"),
    ),
    "undertrained": (
        Remedy("raise", "ppo.iterations", "more steps"),
        Remedy("raise", "ppo.lr", "larger ones"),
        Remedy("lower", "ppo.kl_coef", "the penalty may hold the policy where it is"),
        Remedy("raise", "ppo.batch", "if the score went up and down and nowhere"),
    ),
    "reward_model": (
        Remedy("look at", "data.columns", "are chosen and rejected what they say? Labels may be swapped or shuffled"),
        Remedy("raise", "data.max_pairs", "more pairs (0 takes all), or better ones"),
        Remedy("set", "reward.train", "to lora: the backbone learns too"),
        Remedy("raise", "reward.epochs", "if reward_train_loss is still falling; else reward.lr"),
    ),
    "termination": (
        Remedy("do", "", "check that the tokenizer's eos_token is the token that the model was trained to end with"),
        Remedy("raise", "ppo.response_tokens", "if replies need more room than they have"),
        Remedy("set", "ppo.missing_eos", "to cap: a reply that is cut off must not earn"),
        Remedy("raise", "ppo.missing_eos_penalty", "it costs more"),
        Remedy("raise", "sft.epochs", "SFT is where ending is learnt"),
    ),
}  # fmt: skip


def remedies(name: VerdictName, params: Resolved) -> list[str]:
    """As text, with the value that each parameter has now: "raise ppo.kl_coef (now 0.2): ...".

    Remedies that would change nothing are left out: `set` to what it is.
    """
    found = []
    for remedy in REMEDIES[name]:
        now = value_of(remedy.key, params)
        wanted = remedy.why.split(":")[0].removeprefix("to ") if remedy.does == "set" else None
        if wanted is not None and wanted == str(now):
            continue
        shown = f" (now {now})" if isinstance(now, int | float | str) else ""
        found.append(f"{remedy.does} {remedy.key}{shown}: {remedy.why}" if remedy.key else remedy.why)
    return found


def value_of(dotted: str, params: Resolved) -> object:
    """The value at a dotted key, None where there is none."""
    place: object = params
    for key in dotted.split("."):
        place = place.get(key) if isinstance(place, Mapping) else None
    return place
