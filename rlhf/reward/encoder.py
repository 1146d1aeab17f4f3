"""Fit a referee of another family: the same head on the same pairs, on features of a frozen sentence encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.checkpoint import Checkpoints
from rlhf.models.reward.encoder import SentenceEncoder
from rlhf.models.reward.encoder_referee import EncoderReferee, features
from rlhf.models.reward.scoring import length_batches
from rlhf.reward.features import in_batches
from rlhf.reward.fit import FitSettings
from rlhf.reward.pairs import TextPair


@dataclass(frozen=True, slots=True)
class EncoderFeatures:
    """Features of pairs by split, and what was left out to make texts fit."""

    parts: Mapping[str, Float[Tensor, "N 2 F"]]  # column 0 the chosen reply, 1 the rejected one
    metrics: Mapping[str, object]


def load_encoder(folder: Path | None, device: torch.device) -> EncoderReferee | None:
    """Load the encoder in `folder`, with a head that is not fitted yet; None for None.

    Raises:
        UserError: as `SentenceEncoder.load`.
    """
    return None if folder is None else EncoderReferee.unfitted(SentenceEncoder.load(folder)).to(device)


def encoder_features(
    referee: EncoderReferee, splits: Mapping[str, Sequence[TextPair]], batch_tokens: int, checkpoints: Checkpoints
) -> EncoderFeatures:
    """Encode each distinct prompt and reply of the pairs once, in batches of like length that processes share and that
    are saved as they are finished, and combine them into features (float32)."""
    pairs = [pair for each in splits.values() for pair in each]
    said = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    rows = referee.read([prompt for prompt, _ in said], [text for _, text in said])
    texts = list(dict.fromkeys(text for row in rows for text in row.key))
    batches = length_batches([len(text) for text in texts], batch_tokens)

    def one(number: int) -> Float[Tensor, "B D"]:
        return referee.encoder.embed([texts[i] for i in batches[number]])

    found = in_batches(batches, one, referee.encoder.width, checkpoints, "referee features")
    place = {text: number for number, text in enumerate(texts)}
    prompts, replies = (found[[place[row.key[side]] for row in rows]] for side in (0, 1))
    both = features(prompts, replies).reshape(len(pairs), 2, -1)
    parts = dict(zip(splits, torch.split(both, [len(each) for each in splits.values()]), strict=True))
    metrics = {"reward_referee_encoder": referee.encoder.name, **referee.cut_metrics("reward_referee_")}
    return EncoderFeatures(parts, metrics)


def on_encoder(settings: FitSettings) -> FitSettings:
    """Standardise the features whatever `reward.standardise` says of hidden states: those of embeddings of length 1 are
    hundreds of times smaller, and products of two of them smaller still, than a learning rate for hidden states is
    meant for."""
    return replace(settings, standardise=True)
