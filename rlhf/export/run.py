"""Export a run's models: choose models, forms and folders, and write each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.export.causal import export_adapter, export_merged
from rlhf.export.parts import export_parts
from rlhf.export.reward import export_classifier, why_not_plain
from rlhf.models.policy.available import find_policy, policies
from rlhf.models.reward.scoring import load_reward

Kind = Literal["adapter", "merged", "reward", "reward-parts"]
REWARD = "reward"


@dataclass(frozen=True, slots=True)
class Order:
    """One export: which model, in which form, to which folder."""

    model: str
    kind: Kind
    to: Path


def orders(layout: Layout, model: str | None, kind: str | None, to: Path | None) -> list[Order]:
    """List the exports that a command asks for; model None is every model of the run, kind None every form that a model
    has.

    With both given `to` is the folder itself, else each goes to <to>/<model>/<kind>; `to` None is exports/.

    Raises:
        UserError: there is no such model, or it has no such form.
    """
    known = policies(layout)
    every = [*known, *([REWARD] if (layout.reward / "reward.json").is_file() else [])]
    names = every if model is None else [model]
    found = [(name, one) for name in names for one in _kinds(layout, name) if kind in (None, one)]
    if not found:
        where = "this run" if model is None else f"model {model!r}"
        raise UserError(f"export: {where} has nothing of kind {kind or 'any'}; `dvc repro` makes the models")
    if model and kind and to:
        return [Order(model, one, to) for _, one in found]
    return [Order(name, one, (to or layout.root / "exports") / name / one) for name, one in found]


def _kinds(layout: Layout, name: str) -> Sequence[Kind]:
    """List the forms that a model has. Of a reward model "reward" is named even where it will be refused with a
    reason."""
    if name == REWARD:
        return ("reward", "reward-parts")
    adapter = find_policy(policies(layout), name)
    return ("merged",) if adapter is None else ("adapter", "merged")


def fulfil(layout: Layout, order: Order) -> None:
    """Write one export. Raises UserError if something is missing, has no such form, or the folder is taken."""
    if order.model == REWARD:
        write = export_classifier if order.kind == "reward" else export_parts
        write(layout.base, layout.sft, layout.reward, order.to)
        return
    adapter = find_policy(policies(layout), order.model)
    if order.kind == "adapter" and adapter is not None:
        export_adapter(order.model, adapter, layout.base, order.to)
    else:
        export_merged(order.model, adapter, layout.base, order.to)


def skipped(layout: Layout, order: Order) -> str | None:
    """Say why an order that nobody asked for by name is left out; None if it is not."""
    if order.kind != "reward":
        return None
    return why_not_plain(load_reward(layout.reward, base=layout.base, sft=layout.sft))


KINDS: tuple[str, ...] = get_args(Kind)
