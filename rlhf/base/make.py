"""Make the base model local, from whichever source, and return its metrics."""

from pathlib import Path

from rlhf.base.local import copy_model
from rlhf.base.params import BaseParams
from rlhf.base.pretrain import pretrain
from rlhf.core.artifacts import atomic_dir, write_text
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.models.text.chat_mark import NOTE
from rlhf.models.text.corpus_split import read_documents
from rlhf.models.text.load import load_tokenizer

Metrics = dict[str, float | int | None]


def make_base(params: BaseParams, layout: Layout, runtime: Runtime, checkpoints: Checkpoints) -> Metrics:
    """Write artifacts/base (config, safetensors, tokenizer) and plots/base.csv; return the metrics.

    Losses are in nats a token, on documents held out from pretraining; None where nothing was pretrained.

    Raises:
        UserError: see `copy_model`, `fetch` and `pretrain`.
    """
    if params.source == "pretrain":
        return _pretrain(params, layout, runtime, checkpoints)
    if params.source == "hub":
        from rlhf.models.text.hub import fetch

        source = fetch(params.repo or "", params.revision or "")
    else:
        source = Path(params.path or "")
    note = layout.tokenizer / NOTE
    model = copy_model(source, layout.base, dtype=runtime.dtype, beside=[note] if note.is_file() else [])
    write_text(
        layout.plot("base"), '"step","train_loss","validation_loss"\n'
    )  # a curve without rows, which plots can read
    return _metrics(model.num_parameters())


def _pretrain(params: BaseParams, layout: Layout, runtime: Runtime, checkpoints: Checkpoints) -> Metrics:
    texts = read_documents(layout.corpus)
    tokenizer = load_tokenizer(layout.tokenizer)
    made = pretrain(
        texts, tokenizer, params.pretrain, runtime=runtime, checkpoints=checkpoints, curve=layout.plot("base")
    )
    with atomic_dir(layout.base) as folder:
        made.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return _metrics(
        made.model.num_parameters(),
        train_tokens=made.train_tokens,
        best_step=made.best_step,
        train_loss=made.train_loss,
        validation_loss=made.validation_loss,
        perplexity=made.perplexity,
    )


def _metrics(parameters: int, **pretrained: float | int) -> Metrics:
    names = ("train_tokens", "best_step", "train_loss", "validation_loss", "perplexity")
    return {"base_parameters": parameters, **{f"base_{name}": pretrained.get(name) for name in names}}
