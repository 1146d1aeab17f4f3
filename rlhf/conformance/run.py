"""Decide which engines compute the base model's own numbers, and write it down for the stages that use one."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from peft import PeftModel, get_peft_model
from torch import nn

from rlhf.core.artifacts import atomic_dir, write_json
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.products import through_onednn
from rlhf.core.runtime import Runtime
from rlhf.core.seeding import generator
from rlhf.models.fast.engine import Engine, over
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.checks import Checks
from rlhf.models.policy.conformance import Answers, ask, compare
from rlhf.models.policy.lora import Targets, lora_config
from rlhf.models.policy.truth import Truth
from rlhf.models.text.one_line import in_one_line

Metrics = dict[str, float | str | None]
_ADAPTER, _RANK, _ALPHA, _SIZE = "default", 4, 8.0, 0.02  # of an adapter that is drawn, none that is kept


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one engine."""

    nats: float | None  # largest gap to the model on the base alone; None where the engine did not run
    reason: str | None  # why it cannot be used; None where it can


def run_conformance(layout: Layout, *, targets: Targets, longest: int, runtime: Runtime) -> Metrics:
    """Write artifacts/conformance/engines.json, the engines that may be used; return the metrics.

    Checked are the base model alone, at the lengths of the run, and with an adapter of drawn weights on `targets`, as
    SFT will train one: scored, sampled, and trained. `longest`: tokens of the longest sequence that the run will make.

    Raises:
        UserError: the plain engine does not compute the model's numbers (the largest gap is named), the model cannot
            run at all, or there is no layer of a name in `targets`.
    """
    checks = Checks.of(layout.base, dtype=runtime.dtype, device=runtime.device, longest=longest)
    answers, reasons = _of_engines(layout, checks, targets, runtime)
    truth = Truth.load(layout.base, dtype=runtime.dtype, device=runtime.device)
    found = {}
    for engine, said in answers.items():
        gap = compare(said, truth, checks.probe, checks.nats)
        found[engine] = Found(gap.nats if said.failed is None else None, gap.reason or reasons[engine])
    if why := found["plain"].reason:
        kind = type(truth.model).__name__
        raise UserError(f"{layout.base}: {kind} cannot be used, its own probabilities are not reproduced: {why}")
    return _decide(layout, found, checks.nats)


def _of_engines(
    layout: Layout, checks: Checks, targets: Targets, runtime: Runtime
) -> tuple[dict[Engine, Answers], dict[Engine, str | None]]:
    """Ask each engine about the base alone, then check it with an adapter. All is freed at the end, so that the model
    need not be in memory twice."""
    plain = Backbone.load(layout.base, {}, dtype=runtime.dtype, device=runtime.device)
    engines: dict[Engine, Backbone] = {"plain": plain}
    fast = over(plain)
    if isinstance(fast, str):
        sys.stderr.write(f"conformance: {fast}; the plain engine is used\n")
    else:
        engines["fast"] = fast
    answers = {name: ask(backbone, checks.probe, None) for name, backbone in engines.items()}
    if answers["plain"].failed:
        return answers, dict.fromkeys(engines)
    short = Checks(checks.probe.without_longest(), checks.nats)
    adapted = Backbone(drawn_adapter(plain.model, targets, layout.base.as_posix()), plain.tokenizer)
    reasons: dict[Engine, str | None] = {}
    for name in engines:
        engine = adapted if name == "plain" else over(adapted)
        reason = engine if isinstance(engine, str) else short.refuse(engine, _ADAPTER, trained=True)
        reasons[name] = f"with an adapter, {reason}" if reason else None
    return answers, reasons


@torch.no_grad()
def drawn_adapter(model: nn.Module, targets: Targets, base: str) -> PeftModel:
    """Put an adapter of drawn weights, none of them 0, over the model, which is changed by it; only it is trainable.

    Raises:
        UserError: the model has no layer of a name in `targets`.
    """
    config = lora_config(model, rank=_RANK, alpha=_ALPHA, dropout=0.0, targets=targets, base=base)
    config.inference_mode = False
    with in_one_line(f"sft.lora.targets: peft puts no adapter on {', '.join(config.target_modules or [])}"):
        adapted = cast(PeftModel, get_peft_model(model, config, adapter_name=_ADAPTER))
    draw = generator(0, "conformance", "adapter")
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            size = _SIZE if "lora_B" in name else parameter.shape[-1] ** -0.5
            parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
    through_onednn(adapted)
    adapted.eval()
    return adapted


def _decide(layout: Layout, found: Mapping[Engine, Found], nats: float) -> Metrics:
    engines = [name for name, one in found.items() if one.reason is None]
    for name, one in found.items():
        if one.reason:
            sys.stderr.write(f"conformance: the {name} engine is not used: {one.reason}; the plain engine is used\n")
    with atomic_dir(layout.conformance.parent) as folder:
        write_json(folder / layout.conformance.name, {"engines": sorted(engines)})
    return {
        "conformance_allowed_nats": nats,
        "conformance_engine": "fast" if "fast" in engines else "plain",
        **{f"conformance_{name}_nats": found[name].nats if name in found else None for name in ("fast", "plain")},
    }
