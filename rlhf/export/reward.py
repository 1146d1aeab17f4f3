"""Export the reward model as a sequence classifier of plain transformers: `logits[:, 0]` are our scores.

The libraries' classifiers read the last token that is not padding through a linear map without a bias. So the pooling
must be "last" and the heads must combine linearly; the rest is folded into the weights:

    score = (w . h + b - mean) / std = v . h + c,   v = w / std,   c = (b - mean) / std

and c, for which the classifier has no place, goes into the bias of the last norm, whose output only v reads:
v . (h + c v / |v|^2) = v . h + c. Llama's last norm has no bias either; there one more layer makes the constant
(`rlhf.export.bias_layer`). Where neither can be, as in Mistral and Qwen, logits are scores minus c, and c is written as
`reward_offset` into config.json: differences of scores, all that preferences teach, are the same.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf.core.artifacts import write_text
from rlhf.core.errors import UserError
from rlhf.export.bias_layer import takes_a_layer, with_constant
from rlhf.export.card import classifier_card
from rlhf.export.causal import keep_date, merge
from rlhf.export.destination import export_dir
from rlhf.export.verify import must_agree, padded, probe_rows
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import Scorer
from rlhf.models.text.chat_mark import end_id, is_chat

_LAST_NORMS = ("ln_f", "final_layer_norm", "final_layernorm", "norm")
_PAD = "<|pad|>"


@dataclass(frozen=True, slots=True)
class Line:
    """score = weight . h + constant, in double precision. Axes: D hidden size."""

    weight: Float[Tensor, " D"]
    constant: float


def why_not_plain(reward: RewardModel) -> str | None:
    """Say why this reward model is no sequence classifier of plain transformers, with the parameter to change; None if
    it is one."""
    if not reward.is_plain:
        return (
            "reward.logprobs, reward.head_units or reward.length_correction is on, no linear map of one state: "
            "train without them"
        )
    if reward.pooling != "last":
        return (
            f"reward.pooling is {reward.pooling}, and the libraries' classifiers read the last token alone: train with "
            "reward.pooling=last, or export it as --kind reward-parts"
        )
    if reward.ensemble.members > 1 and reward.ensemble.aggregate != "mean":
        return (
            f"reward.aggregate is {reward.ensemble.aggregate} over {reward.ensemble.members} heads, which is no linear "
            "map: train with reward.aggregate=mean, or export it as --kind reward-parts"
        )
    return None


@torch.no_grad()
def export_classifier(base: Path, sft: Path, reward: Path, to: Path) -> None:
    """Write one checkpoint with num_labels 1: the backbone, merged with the adapter it is read under, and the head.

    Raises:
        UserError: something is missing, the reward model is of another backbone, has no such form, or `to` is taken.
    """
    scorer = Scorer.load(base, sft, reward)
    if reason := why_not_plain(scorer.reward):
        raise UserError(f"{reward}: {reason}")
    rows = probe_rows(scorer.backbone)
    ours = torch.tensor(scorer.score_rows(rows, batch_tokens=8192))
    with export_dir(to, about={"model": "reward", "kind": "reward"}, inputs=[base, sft, reward]) as folder:
        tokenizer = scorer.backbone.tokenizer
        model, offset = classifier(merge(scorer.backbone, scorer.adapter), folded(scorer.reward), tokenizer)
        model.save_pretrained(folder)
        tokenizer.padding_side = "right"
        tokenizer.save_pretrained(folder)
        deeper = model.config.num_hidden_layers > scorer.backbone.model.config.num_hidden_layers
        keep_date(folder)
        end = str(tokenizer.convert_ids_to_tokens(end_id(tokenizer))) if is_chat(tokenizer) else None
        write_text(folder / "README.md", classifier_card(reward, offset, deeper=deeper, chat_end=end))
        loaded = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        logits = loaded.eval()(**padded(rows, tokenizer)).logits[:, 0]
        must_agree(f"{to}", logits + offset, ours)


def folded(reward: RewardModel) -> Line:
    """Fold heads, their mean and the normalisation into one line."""
    head = reward.line
    weight, bias = head.weight.double().mean(0), float(head.bias.double().mean())
    return Line(weight / reward.std, (bias - reward.mean) / reward.std)


def classifier(
    merged: PreTrainedModel, line: Line, tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, float]:
    """Make the classifier; also return the constant to add to its logits to get scores (0 where the weights could take
    it).

    Raises:
        UserError: transformers has no such class for this architecture, or one with another head.
    """
    add_padding(merged, tokenizer)
    config: Any = merged.config
    config.num_labels, config.pad_token_id, config.id2label, config.label2id = (
        1,
        tokenizer.pad_token_id,
        {0: "reward"},
        {"reward": 0},
    )
    config.problem_type = "regression"
    try:
        model = AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        raise UserError(
            f"transformers has no sequence classifier for {config.model_type}; export it as --kind reward-parts"
        ) from None
    score = getattr(model, "score", None)
    if not isinstance(score, nn.Linear):
        raise UserError(f"{type(model).__name__} has no linear `score`; export it as --kind reward-parts")
    model.generation_config = cast(GenerationConfig, None)
    model.base_model.load_state_dict(merged.base_model.state_dict())
    score.weight.copy_(line.weight.unsqueeze(0))
    model.eval()
    offset = 0.0
    if not _absorbed(model, score, line):
        if takes_a_layer(config):
            model = with_constant(model, line.weight, line.constant)
        else:
            offset = line.constant
    model.config.reward_offset = offset
    return model, offset


def add_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add a pad token that is nothing else. The classifiers find the last token by id: where EOS pads, they would skip
    the EOS that ends a response and read the token before it."""
    others = {end_id(tokenizer), tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id}
    if tokenizer.pad_token_id not in others:
        return
    tokenizer.add_special_tokens({"pad_token": _PAD})
    table: Any = model.get_input_embeddings()
    rows = table.weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        table = model.get_input_embeddings()
        table.weight[rows:] = 0.0


def _absorbed(model: PreTrainedModel, score: nn.Linear, line: Line) -> bool:
    """Put the constant into a bias that only the score reads; False if there is none."""
    if score.bias is not None:
        score.bias.fill_(line.constant)
        return True
    norm = next((found for name in _LAST_NORMS if (found := getattr(model.base_model, name, None)) is not None), None)
    length = float(line.weight.square().sum())
    if getattr(norm, "bias", None) is None or length == 0.0:
        return False
    bias: Tensor = cast(nn.LayerNorm, norm).bias
    bias.copy_(bias.double() + line.constant / length * line.weight)
    return True
