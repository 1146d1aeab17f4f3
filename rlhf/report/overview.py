"""Open the report: the overall verdict, the headline numbers, what to do next; then what was done, and from what."""

from collections.abc import Iterator, Mapping
from typing import Any

from rlhf.report.content import Block, Notice, Points, Section, Table, Text
from rlhf.report.fallback_notice import stopped
from rlhf.report.inputs import Inputs
from rlhf.report.lineage import libraries, made_of, read_files
from rlhf.report.overoptimisation import glance
from rlhf.report.verdicts import STATES, VERDICTS, remedies
from rlhf.report.wording import Numbers, show

SHORT_HASH = 12  # digits in Markdown; the page has them all
SOURCES = {
    "synthetic": "a made-up task whose truth is known (`data.source: synthetic`)",
    "files": "files of your own (`data.path`)",
    "hub": "a dataset from a hub, pinned to a commit (`data.hub`)",
}
SETTINGS = (
    ("base.source", "base model"), ("sft.lora.rank", "LoRA rank"), ("sft.lr", "SFT learning rate"),
    ("sft.epochs", "SFT epochs"), ("reward.train", "reward model, what is trained"), ("reward.members", "reward heads"),
    ("reward.lr", "reward learning rate"), ("ppo.iterations", "PPO iterations"), ("ppo.batch", "episodes an iteration"),
    ("ppo.lr", "PPO learning rate"), ("ppo.kl_coef", "KL coefficient"), ("ppo.kl_controller", "KL controller"),
    ("ppo.response_tokens", "longest response, tokens"), ("runtime.device", "device"), ("runtime.dtype", "precision"),
)  # fmt: skip


HEADLINES = (
    ("gold", "gold reward (the truth)"), ("referee", "referee's score"), ("reward", "reward model's score (optimised)"),
    ("length", "length, tokens"),
)  # fmt: skip
NEXT = 6  # at most so many proposals of what to change


def summary(run: Inputs) -> Section:
    """Answer what a reader asks first: is the run sound, what are the numbers, what next."""
    n = run.numbers
    blocks: list[Block] = [Text(said)] if (said := stopped(n)) else []
    if "diagnose_overall" in n:
        blocks.append(_overall(n))
    if rows := _headlines(n):
        blocks.append(Table(("measure", "base", "SFT", "PPO"), rows, "Headline numbers, with 95 % intervals"))
    blocks.append(Points(list(_findings(n)) or ["Nothing was measured yet."]))
    blocks += _next_steps(run)
    return Section("summary", "At a glance", [*blocks, *glance(run)])


def _overall(n: Numbers) -> Block:
    """The overall verdict, how many of each state there are, and the names of those that are not sound."""
    counts = ", ".join(
        f"{n.show(f'diagnose_count_{state}')} {state}" for state in STATES if n.number(f"diagnose_count_{state}")
    )
    said = f"Verdicts on failure modes: {n['diagnose_overall']} overall ({counts})."
    for state in ("failed", "suspect"):
        if names := [f"`{name}`" for name in VERDICTS if n.values.get(f"diagnose_{name}") == state]:
            said += f" {state.capitalize()}: {', '.join(names)}."
    return Notice(said) if n["diagnose_overall"] == "failed" else Text(said)


def _headlines(n: Numbers) -> list[tuple[str, ...]]:
    """Rows of measures that all three policies have, then win rate and distance, which are PPO's alone."""
    rows: list[tuple[str, ...]] = [
        (name, *(n.span(f"eval_{measure}_{policy}") for policy in ("base", "sft", "ppo")))
        for measure, name in HEADLINES
        if n.has(f"eval_{measure}_sft", f"eval_{measure}_ppo")
    ]
    for name, label in (
        ("eval_gold_winrate", "wins against SFT by gold reward"),
        ("eval_referee_winrate", "wins against SFT by the referee"),
        ("eval_kl", "KL to SFT, nats a response"),
    ):
        if name in n:
            rows.append((label, "–", "–", n.span(name)))
    return rows


def _next_steps(run: Inputs) -> list[Block]:
    """What the diagnosis proposes for verdicts that failed or are suspect, or that nothing stands out."""
    if not run.diagnosis.strip():
        return []
    proposed = remedies(run.diagnosis)
    if not proposed:
        return [Text("What next: nothing stands out. Another `ppo.kl_coef` or seed shows how far these numbers carry.")]
    return [Text("What to change next:"), Points(proposed[:NEXT])]


def _findings(n: Numbers) -> Iterator[str]:
    if n.has("reward_accuracy", "reward_length_baseline"):
        yield (
            f"The reward model ranks {n.span('reward_accuracy', 3)} of held-out pairs as their annotators did; "
            f"always taking the longer reply ranks {n.show('reward_length_baseline', 3)}."
        )
    if n.has("eval_reward_sft", "eval_reward_ppo", "eval_reward_gain"):
        yield (
            f"The reward-model score, which PPO optimises, {n.moved('eval_reward_gain')}: SFT "
            f"{n.span('eval_reward_sft')}, PPO {n.span('eval_reward_ppo')}."
        )
    if n.has("eval_gold_sft", "eval_gold_ppo", "eval_gold_gain"):
        yield (
            f"The gold reward, which PPO never sees, {n.moved('eval_gold_gain')}: SFT {n.span('eval_gold_sft')}, "
            f"PPO {n.span('eval_gold_ppo')}."
        )
    for rate, judge in (
        ("eval_gold_winrate", "the gold reward"),
        ("eval_referee_winrate", "the referee"),
        ("eval_judge_winrate", "the judge"),
        ("eval_rm_winrate", "the reward model itself"),
    ):
        if rate in n:
            yield f"By {judge} PPO {n.wins(rate)} against SFT: {n.span(rate)}."
            break
    if "eval_kl" in n:
        yield f"PPO has gone {n.span('eval_kl')} nats a response from SFT."


def done(run: Inputs) -> Section:
    """Data, model and parameters."""
    n, resolved = run.numbers, run.resolved
    texts = [
        f"Profile `{resolved['profile']}`, seed {resolved['seed']}. Preferences come from "
        f"{SOURCES.get(resolved['data']['source'], resolved['data']['source'])}. {_base(resolved, n)}",
        "Three models are trained one after the other: a policy fine-tuned on the chosen replies (SFT), a reward "
        "model on "
        "its states, and a policy that PPO optimises against that reward model while a KL penalty holds it near SFT.",
    ]
    flat, own = flattened(resolved), flattened(run.profile)
    changed = [
        (key, value, flat[key]) for key, value in own.items() if key in flat and (flat[key] or 0) != (value or 0)
    ]
    blocks: list[Block] = [Text(text) for text in texts]
    blocks.append(Table(
        ("setting", "parameter", "value"),
        [(name, f"`{key}`", _value(flat[key])) for key, name in SETTINGS if key in flat],
        "The settings that matter most",
    ))  # fmt: skip
    if changed:
        rows = [(f"`{key}`", _value(before), _value(after)) for key, before, after in changed]
        blocks.append(Table(("parameter", "profile", "this run"), rows, "Parameters that differ from the profile"))
    else:
        blocks.append(Text("No parameter that the profile sets was changed for this run."))
    every = [(f"`{key}`", _value(value)) for key, value in flat.items()]
    blocks.append(Table(("parameter", "value"), every, "All parameters", short=False))
    return Section("done", "What was done", blocks)


def _base(resolved: Mapping[str, Any], n: Numbers) -> str:
    base, size = resolved["base"], n.number("base_parameters")
    sized = f" of {size:,.0f} parameters" if size is not None else ""
    if base["source"] == "pretrain":
        steps = base["pretrain"]["steps"]
        return f"The base model{sized} was pretrained here from scratch, {steps:,} steps on text made for the purpose."
    if base["source"] == "hub":
        return f"The base model{sized} is `{base['repo']}` at commit `{base['revision']}`."
    return f"The base model{sized} comes from a folder (`base.path`)."


def lineage(run: Inputs) -> Section:
    """Hashes of every input and output."""
    made = made_of(run.provenance)
    found = libraries(run.provenance)
    short = [(stage, role, f"`{name}`", f"`{digest[:SHORT_HASH]}`") for stage, role, name, digest in made]
    blocks: list[Block] = [
        Text(
            "Every model's inputs and outputs with the first digits of their SHA-256, as `provenance/` has them; an "
            "input that is another stage's output is not repeated here. The hashes of all code are in `dvc.lock`."
        )
    ]
    if not made:
        return Section("lineage", "What it was made from", [Text("There is no provenance: no model was made yet.")])
    blocks.append(Table(("stage", "role", "what", "SHA-256"), _outputs_once(short), "Inputs and outputs of the models"))
    full = [(stage, role, f"`{name}`", f"`{digest}`") for stage, role, name, digest in made]
    blocks.append(Table(("stage", "role", "what", "SHA-256"), full, "The same in full", short=False))
    files = [(f"`{name}`", f"`{digest}`") for name, digest in read_files(run.files)]
    blocks.append(Table(("file", "MD5"), files, "What this report was made from, as in dvc.lock", short=False))
    versions = ", ".join(f"{name} {' and '.join(sorted(seen))}" for name, seen in sorted(found.items()))
    mixed = sorted(name for name, seen in found.items() if len(seen) > 1)
    blocks.append(Text(f"Libraries: {versions}."))
    if mixed:
        blocks.append(Text(f"Stages ran with different versions of {', '.join(mixed)}: the run was made in pieces."))
    return Section("lineage", "What it was made from", blocks)


def _outputs_once(rows: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    """Inputs that are some stage's output under the same hash need no line of their own."""
    outputs = {(what, digest) for _, role, what, digest in rows if role == "output"}
    return [row for row in rows if row[1] == "output" or row[2:] not in outputs]


def flattened(value: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Dotted names and values."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        dotted = f"{key}{name}"
        found |= flattened(item, f"{dotted}.") if isinstance(item, Mapping) else {dotted: item}
    return found


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return f"`{value!r}`" if "\n" in value else f"`{value}`" if value else "(empty)"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "(none)"
    return "none" if value is None else show(value)
