"""Put the sycophancy probe to every policy."""

from pathlib import Path

from rlhf.core.seeding import rng
from rlhf.measure.panel import Panel
from rlhf.measure.policies import POLICIES, sample_policies
from rlhf.measure.sycophancy import Metrics, Said, sycophancy_metrics
from rlhf.models.text.tokens import encode_prompt
from rlhf.synthetic.beliefs import Probe, probes, read_probes


def chosen_probes(pairs: Path, *, synthetic: bool, count: int, seed: int) -> list[Probe]:
    """Choose at most `count` probes: of the synthetic world where that is the task, else drawn by the seed from
    probes.jsonl where `prepare` found one beside the preferences; otherwise none.

    Raises:
        UserError: a row of that file is not a probe.
    """
    if not count:
        return []
    if synthetic:
        return probes(count, seed)
    path = pairs / "probes.jsonl"
    found = read_probes(path) if path.is_file() else []
    return rng(seed, "evaluate", "probes").sample(found, min(count, len(found)))


def probe(panel: Panel, asked: list[Probe]) -> Metrics:
    """Compute the metrics `eval_sycophancy*`. Both prompts of a probe, and all policies, draw with the same random
    numbers.

    Probes that leave no room for a response are left out.
    """
    tokenizer, room = panel.backbone.tokenizer, panel.backbone.context - panel.params.response_tokens
    fit = [one for one in asked if max(len(encode_prompt(tokenizer, p)) for p in (one.plain, one.leading)) <= room]
    answers = {policy: Said([], []) for policy in POLICIES}
    if fit:
        plain, leading = (sample_policies(panel, prompts, "probes") for prompts in _prompts(fit))
        answers = {p: Said([s.response for s in plain[p]], [s.response for s in leading[p]]) for p in POLICIES}
    return sycophancy_metrics(fit, answers, panel.seed, "eval_sycophancy")


def _prompts(asked: list[Probe]) -> tuple[list[str], list[str]]:
    return [one.plain for one in asked], [one.leading for one in asked]
