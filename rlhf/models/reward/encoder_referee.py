"""A referee of another family: a linear head on what a frozen sentence encoder says of a prompt and a reply.

A referee on the policy's own backbone shares the reward model's blind spots: what neither's features show, neither
knows. This one shares pairs and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.artifacts import read_json, write_bytes, write_json
from rlhf.core.errors import UserError
from rlhf.core.processes import Processes, current
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.encoder import Encoded, Ids, SentenceEncoder
from rlhf.models.reward.encoder_folder import check_encoder_folder, read_files, sha256_of
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import length_batches
from rlhf.models.text.control import unsigned

ENCODER: Final = "encoder"  # the encoder's folder within the referee's, and its key in backbone.json
BLOCKS: Final = 3  # of features, each as wide as the encoder


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and a reply to it, as the encoder reads them, each within its longest text: of a prompt that is too long
    the end is kept, next to the reply; of a reply the start."""

    prompt: Encoded
    reply: Encoded

    @property
    def sides(self) -> tuple[Encoded, Encoded]:
        """Return prompt and reply."""
        return self.prompt, self.reply

    @property
    def key(self) -> tuple[Ids, Ids]:
        """Return what the score hangs on."""
        return self.prompt.ids, self.reply.ids


def features(prompts: Float[Tensor, "N D"], replies: Float[Tensor, "N D"]) -> Float[Tensor, "N F"]:
    """Compute what the head reads of the embeddings u of prompts and v of replies: v, u v and |u - v|, F = 3 D.

    These are the features of InferSent (Conneau et al. 2017, arXiv 1705.02364, section 3.1) without u itself, which is
    the same for both replies of a pair and which no pair can teach. v is the reply alone; the other two say how it
    stands to the prompt: the sum of u v is the cosine that such encoders are trained on. Prompt and reply go in apart,
    as the encoder was trained, and so neither takes up the other's room.
    """
    return torch.cat((replies, prompts * replies, (prompts - replies).abs()), dim=1)


@dataclass(slots=True)
class EncoderReferee:
    """The head on the encoder. Scores are in standard deviations of SFT responses, as a reward model's.

    Each distinct text is encoded once and each distinct pair of texts scored once, so that equal texts have equal
    scores: what is known stays known as long as this object does.
    """

    encoder: SentenceEncoder
    head: RewardModel  # on `features`; its pooling is not used
    embeddings: dict[Ids, Tensor] = field(default_factory=dict)
    known: dict[tuple[Ids, Ids], float] = field(default_factory=dict)
    cut: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))  # prompts and replies that were

    @classmethod
    def unfitted(cls, encoder: SentenceEncoder) -> "EncoderReferee":
        """Make a referee whose head is 0."""
        head = RewardModel(BLOCKS * encoder.width, pooling="mean", pool_over="response", backbone_adapter=ENCODER)
        return cls(encoder, head)

    def fresh(self) -> "EncoderReferee":
        """Return the same referee, which knows no text yet."""
        return EncoderReferee(self.encoder, self.head)

    def to(self, device: torch.device | str) -> "EncoderReferee":
        """Move the encoder; the head stays on the CPU, where the embeddings come back to."""
        torch.nn.Module.to(self.encoder.model, device)
        return self

    def read(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Asked]:
        """Turn prompts and replies into ids, and remember which had to be cut. Text as in the pairs, whose signs
        (`rlhf.models.text.control`) are no part of it."""
        known = {prompt: self.encoder.encode(unsigned(prompt), keep="end") for prompt in dict.fromkeys(prompts)}
        rows = [
            Asked(known[prompt], self.encoder.encode(reply, keep="start"))
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
        for side, texts in enumerate((prompts, replies)):
            self.cut[side].update(text for text, row in zip(texts, rows, strict=True) if row.sides[side].cut)
        return rows

    def score_samples(self, samples: Sequence[Sample], *, batch_tokens: int) -> list[float]:
        """Score sampled responses by their texts. Whether one ended, or was cut off, the encoder does not see."""
        prompts, replies = [sample.prompt for sample in samples], [sample.response for sample in samples]
        return self.score_texts(prompts, replies, batch_tokens=batch_tokens)

    def score_texts(
        self, prompts: Sequence[str], replies: Sequence[str], *, batch_tokens: int, among: Processes | None = None
    ) -> list[float]:
        """Score replies to prompts, in their order; at most `batch_tokens` word pieces, padding included, go through at
        once. Processes that share a run share these batches, or those of `among` do."""
        rows = self.read(prompts, replies)
        new = [row for row in dict.fromkeys(rows) if row.key not in self.known]
        self._embed(new, batch_tokens, among or current())
        pairs = list(dict.fromkeys(row.key for row in new))
        if pairs:
            sides = [torch.stack([self.embeddings[pair[side]] for pair in pairs]) for side in (0, 1)]
            lengths = torch.tensor([float(len(reply)) for _, reply in pairs])
            with torch.no_grad():
                found = self.head.score_features(features(sides[0], sides[1]), lengths)
            self.known.update(zip(pairs, found.tolist(), strict=True))
        return [self.known[row.key] for row in rows]

    def _embed(self, rows: Sequence[Asked], batch_tokens: int, processes: Processes) -> None:
        texts = [text for row in rows for text in row.key]
        new = [text for text in dict.fromkeys(texts) if text not in self.embeddings]
        batches = [[new[i] for i in batch] for batch in length_batches([len(text) for text in new], batch_tokens)]
        found = processes.map(batches, lambda batch: self.encoder.embed(batch).tolist())
        for batch, embedded in zip(batches, found, strict=True):
            self.embeddings.update(zip(batch, torch.tensor(embedded), strict=True))

    def cut_metrics(self, prefix: str) -> dict[str, object]:
        """Count the distinct prompts and replies that this object has seen and not read to the end."""
        return {f"{prefix}prompts_cut": len(self.cut[0]), f"{prefix}replies_cut": len(self.cut[1])}

    def save(self, folder: Path) -> None:
        """Write the head as a reward model's, the encoder's own files beside it (encoder/), and their hash.

        Raises:
            UserError: the files are not those any more that the encoder was loaded from.
        """
        files, digest = read_files(self.encoder.folder)
        if digest != self.encoder.sha256:
            raise UserError(f"{self.encoder.folder.path}: the encoder was changed while this ran; run it again")
        self.head.save(folder)
        for name, data in files.items():
            write_bytes(folder / ENCODER / name, data)
        write_json(folder / "backbone.json", {ENCODER: self.encoder.sha256})

    @classmethod
    def load(cls, folder: Path) -> "EncoderReferee":
        """Read what `save` wrote.

        Raises:
            UserError: it is incomplete, or its head was fitted on another encoder than lies beside it.
        """
        head = RewardModel.load(folder)
        own = folder / ENCODER
        if not own.is_dir() or sha256_of(check_encoder_folder(own)) != read_json(folder / "backbone.json")[ENCODER]:
            raise UserError(f"{own}: not the encoder that this referee was fitted on; fit it again (stage reward)")
        encoder = SentenceEncoder.load(own)
        if head.hidden_size != BLOCKS * encoder.width:
            raise UserError(
                f"{folder}: the head reads {head.hidden_size} features, the encoder gives {BLOCKS * encoder.width}"
            )
        return cls(encoder, head)


def reads_encoder(folder: Path) -> bool:
    """Tell whether the referee in `folder` stands on a sentence encoder."""
    known = read_json(folder / "backbone.json") if (folder / "backbone.json").is_file() else {}
    return isinstance(known, dict) and ENCODER in known
