"""Export policies: the adapter as it is, or merged into the base model."""

import shutil
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rlhf.core.artifacts import write_text
from rlhf.core.errors import UserError
from rlhf.export.card import adapter_card, merged_card
from rlhf.export.destination import export_dir
from rlhf.export.verify import must_agree, padded, probe_rows
from rlhf.models.policy.backbone import Backbone
from rlhf.models.text.chat_mark import end_id, is_chat
from rlhf.models.text.chat_template import undated
from rlhf.models.text.end_tokens import end_tokens

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_NAME = "policy"


def export_adapter(name: str, adapter: Path, base: Path, to: Path) -> None:
    """Copy the adapter's files and its tokenizer, byte for byte; `PeftModel.from_pretrained` puts it onto the base.

    Raises:
        UserError: the adapter is incomplete, or `to` is taken.
    """
    with export_dir(to, about={"model": name, "kind": "adapter"}, inputs=[base, adapter]) as folder:
        for file in ADAPTER_FILES:
            if not (adapter / file).is_file():
                raise UserError(f"{adapter}: no {file}; a LoRA adapter in peft form is needed there")
        names = ("token", "special_tokens", "chat_template")
        beside = [path for path in sorted(adapter.iterdir()) if path.name.startswith(names) and path.is_file()]
        for path in [*(adapter / file for file in ADAPTER_FILES), *beside]:
            shutil.copyfile(path, folder / path.name)
        keep_date(folder)
        write_text(folder / "README.md", adapter_card(name, adapter, base))


@torch.no_grad()
def export_merged(name: str, adapter: Path | None, base: Path, to: Path) -> None:
    """Write one model without adapters, in float32: base + (alpha / rank) B A, with its tokenizer and generation
    config.

    Logits are those of base and adapter within 1e-4 (of their size, where they are above 1), which is checked on the
    files written before they are kept. Adapter None exports the base model.

    Raises:
        UserError: base or adapter is missing or does not fit, or `to` is taken.
    """
    adapters = {} if adapter is None else {_NAME: adapter}
    backbone = Backbone.load(base, adapters, dtype=torch.float32, device="cpu")
    batch = padded(probe_rows(backbone), backbone.tokenizer)
    ours = backbone.model(**batch).logits
    inputs = [base] if adapter is None else [base, adapter]
    with export_dir(to, about={"model": name, "kind": "merged"}, inputs=inputs) as folder:
        model = merge(backbone)
        model.generation_config = generation_config(model, backbone.tokenizer)
        model.save_pretrained(folder)
        hide_end(backbone.tokenizer)
        backbone.tokenizer.save_pretrained(folder)
        keep_date(folder)
        write_text(folder / "README.md", merged_card(name, adapter, chat=is_chat(backbone.tokenizer)))
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        loaded.eval()
        real = batch["attention_mask"].bool()
        must_agree(f"{to}", loaded(**batch).logits[real], ours[real])


def hide_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """Mark the token that ends a reply as special, so that decoding elsewhere leaves it out of the reply's text."""
    token = tokenizer.added_tokens_decoder.get(end_id(tokenizer))
    if token is not None and not token.special:
        token.special = True
        tokenizer.add_tokens([token], special_tokens=True)


def keep_date(folder: Path) -> None:
    """Let an exported chat template tell the date that the run told, on any day (`undated`)."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        if (fixed := undated(text)) != text:
            write_text(path, fixed)


def merge(backbone: Backbone, adapter: str = _NAME) -> PreTrainedModel:
    """Merge one adapter into the weights and return the plain model; the backbone is used up."""
    if not isinstance(backbone.model, PeftModel):
        return backbone.model
    return cast(PreTrainedModel, backbone.model.merge_and_unload(adapter_names=[adapter]))


def generation_config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Make the config by which others stop and pad as the run did; it samples, at temperature 1, as the run's policies
    do."""
    ends = list(end_tokens(model, tokenizer))
    return GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_k=0,
    )
