"""LoRA adapters in peft form: where they attach, and how they are written (same weights, same bytes)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf.core.artifacts import load_tensors, save_tensors, write_json
from rlhf.core.errors import UserError
from rlhf.core.products import through_onednn
from rlhf.models.text.one_line import in_one_line

Targets = Literal["auto"] | list[str]


def resolve_targets(model: nn.Module, spec: Targets) -> list[str]:
    """Name the linear layers that adapters attach to, sorted, as peft's `target_modules`.

    "auto" takes every linear layer inside an attention block: GPT-2 gives c_attn and c_proj (peft matches by
    the last name, so the MLP's c_proj too, as in the reference run), Llama q, k, v and o, GPT-NeoX
    query_key_value and dense.

    Raises:
        UserError: the model has no layer of a name in `spec`; "auto" finds none.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    if spec == "auto":
        found = sorted({name.rsplit(".", 1)[-1] for name in linear if "attn" in name or "attention" in name})
        if not found:
            raise UserError(f"lora targets 'auto': {type(model).__name__} has no linear layer in an attention block")
        return found
    allowed = sorted({name.rsplit(".", 1)[-1] for name in linear})
    for wanted in spec:
        if not any(name == wanted or name.endswith("." + wanted) for name in linear):
            raise UserError(f"lora targets: {wanted!r} is no layer of {type(model).__name__}; allowed: {allowed}")
    return sorted(spec)


def lora_config(
    model: nn.Module, *, rank: int, alpha: float, dropout: float, targets: Targets, base: str
) -> LoraConfig:
    """Configure a causal-LM LoRA over `model`; update = (alpha / rank) B A (Hu et al. 2021, section 4.1).

    `base` is recorded as the path of the base model, for whoever loads the adapter later. `targets`: `resolve_targets`.
    """
    names = resolve_targets(model, targets)
    transposed = any(
        isinstance(module, Conv1D) and name.rsplit(".", 1)[-1] in names for name, module in model.named_modules()
    )
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # typed int; a fraction works
        lora_dropout=dropout,
        target_modules=names,
        fan_in_fan_out=transposed,
        base_model_name_or_path=base,
        inference_mode=True,
    )


def set_dropout(model: nn.Module, adapter: str, share: float) -> None:
    """Set the dropout of the inputs of one loaded adapter; only train mode drops anything."""
    for drops in _dropouts(model):
        if adapter in drops:
            drops[adapter] = nn.Dropout(share) if share else nn.Identity()


def _dropouts(model: nn.Module) -> list[nn.ModuleDict]:
    found = (getattr(module, "lora_dropout", None) for module in model.modules())
    return [drops for drops in found if isinstance(drops, nn.ModuleDict)]


@contextmanager
def without_dropout(model: nn.Module, adapter: str) -> Iterator[None]:
    """Take the adapter's own dropout out, and put it back."""
    kept = [(d, d[adapter]) for d in _dropouts(model) if adapter in d]
    set_dropout(model, adapter, 0.0)
    try:
        yield
    finally:
        for drops, own in kept:
            drops[adapter] = own


def add_adapter(model: PreTrainedModel | PeftModel, name: str, folder: Path) -> PeftModel:
    """Add an adapter to the model.

    Raises:
        UserError: there is none in `folder`, or it does not fit the model.
    """
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / file).is_file():
            raise UserError(f"{folder}: no {file}; a LoRA adapter in peft form is needed there")
    with in_one_line(f"{folder}: the adapter does not fit the base model"):
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name)
            adapted = model
        else:
            adapted = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    check_complete(adapted, name, folder)
    through_onednn(adapted)
    return adapted


def check_complete(model: PeftModel, name: str, folder: Path) -> None:
    """Refuse an adapter that peft would load in part, with a warning at most, and one whose weights are not finite.

    Raises:
        UserError: the adapter in `folder` is one of these.
    """
    given = load_tensors(folder / "adapter_model.safetensors")
    taken = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    for what, names in (("has no place for", given.keys() - taken.keys()), ("lacks", taken.keys() - given.keys())):
        if names:
            where = "the base model" if what != "lacks" else "it"
            raise UserError(
                f"{folder}: the adapter does not fit the base model ({where} {what} {len(names)} tensors, "
                f"{min(names)} first)"
            )
    for key, tensor in given.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{folder}: the adapter's weights are not finite: {key} holds NaN or infinity")


def write_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Write adapter `name` so that plain `PeftModel.from_pretrained` loads it.

    peft's own save writes sets in hash order and a model card; this writes the same content in one order, so
    equal adapters are equal bytes.
    """
    weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    save_tensors(
        folder / "adapter_model.safetensors",
        {key: value.detach().cpu().contiguous() for key, value in sorted(weights.items())},
    )
    config = {**model.peft_config[name].to_dict(), "inference_mode": True}
    write_json(folder / "adapter_config.json", _plain(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
