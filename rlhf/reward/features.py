"""Compute the features of all pairs in one pass of the frozen backbone; fitting a head is then arithmetic on them."""

import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.artifacts import load_tensors, save_tensors, sha256_file
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.processes import current
from rlhf.core.progress import say_resumed, track
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, Row, length_batches, pooled
from rlhf.models.text.tokens import encode_prompt, encode_response
from rlhf.reward.pairs import TextPair
from rlhf.training.interrupt import interruptible


def pair_rows(backbone: Backbone, pairs: Sequence[TextPair]) -> list[Row]:
    """Encode (prompt, chosen), (prompt, rejected) of each pair in turn; every response ends with EOS.

    Raises:
        UserError: a pair is longer than the model's context.
    """
    rows: list[Row] = []
    for pair in pairs:
        prompt = encode_prompt(backbone.tokenizer, pair.prompt)
        for text in (pair.chosen, pair.rejected):
            row = (prompt, encode_response(backbone.tokenizer, text))
            if (length := len(row[0]) + len(row[1])) > backbone.context:
                raise UserError(
                    f"a pair has {length} tokens, the model's context holds {backbone.context}: lower data.max_tokens "
                    f"(prompt {pair.prompt[:60]!r})"
                )
            rows.append(row)
    return rows


def pair_features(
    backbone: Backbone,
    pairs: Sequence[TextPair],
    *,
    model: RewardModel,
    adapter: str,
    batch_tokens: int,
    checkpoints: Checkpoints,
) -> Float[Tensor, "N 2 D"]:
    """Compute pooled features of all pairs: column 0 the chosen response, 1 the rejected one. Float32, on the CPU.

    Each distinct row goes through once, so that equal rows have equal features. Rows of like length share a batch.
    Processes that share a run take the batches in turn, one each, and hand the features on: what is in a batch does not
    depend on their number. Finished batches are saved in pieces, each written once; a run that is killed and started
    again, at any number of processes, computes the missing batches only and ends with the same bytes.

    Raises:
        UserError: a pair is longer than the model's context.
        Stopped: SIGINT or SIGTERM came; what was computed is saved.
    """
    every = [(tuple(prompt), tuple(response)) for prompt, response in pair_rows(backbone, pairs)]
    place = {row: number for number, row in enumerate(dict.fromkeys(every))}
    rows: list[Row] = list(place)
    batches = length_batches([len(p) + len(r) for p, r in rows], batch_tokens)

    def one(number: int) -> Float[Tensor, "B D"]:
        return pooled(backbone, [rows[i] for i in batches[number]], model=model, adapter=adapter).cpu()

    features = in_batches(batches, one, model.feature_size, checkpoints, "reward features")
    return features[[place[row] for row in every]].reshape(len(pairs), 2, -1)


def in_batches(
    batches: Sequence[Sequence[int]],
    one: Callable[[int], Float[Tensor, "B D"]],
    width: int,
    checkpoints: Checkpoints,
    name: str,
) -> Float[Tensor, "N D"]:
    """Compute one(number), the rows at batches[number], for every batch, and put each row in its place.

    Processes that share a run take the batches in turn; finished ones are saved in pieces (see `pair_features`).
    `name`: of the progress bar.

    Raises:
        Stopped: SIGINT or SIGTERM came; what was computed is saved.
    """
    pieces = Pieces(checkpoints)
    done = pieces.restore()
    if done:
        say_resumed(name, "batch", len(done), len(batches))
    features = torch.zeros(sum(map(len, batches)), width)
    for number, found in done.items():
        features[batches[number]] = found
    missing = [number for number in range(len(batches)) if number not in done]
    size = current().size
    with interruptible() as stop, track(len(batches), name, initial=len(done), unit="batch") as bar:
        for turn in (missing[start : start + size] for start in range(0, len(missing), size)):
            for number, found in zip(turn, _in_turn(turn, one, [len(batches[n]) for n in turn], features), strict=True):
                features[batches[number]] = found
                pieces.add(number, found)
                bar.update()
            due = stop.agree(checkpoints.due(pieces.count))
            stop.check(pieces.save)
            if due:
                pieces.save()
    return features


def _in_turn(
    turn: Sequence[int], one: Callable[[int], Tensor], rows: Sequence[int], like: Float[Tensor, "N D"]
) -> list[Float[Tensor, "B D"]]:
    """Compute the features of at most as many batches as there are processes, a batch each; all get all of them."""
    rank = current().rank
    own = one(turn[rank]) if rank < len(turn) else like[:0]
    padded = torch.nn.functional.pad(own, (0, 0, 0, max(rows) - len(own)))
    return [found[:count] for found, count in zip(current().gather(padded), rows, strict=False)]


def response_tokens(backbone: Backbone, pairs: Sequence[TextPair]) -> Float[Tensor, "N 2"]:
    """Count the tokens of the chosen and the rejected response of each pair, the EOS included."""
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    lengths = [float(len(encode_response(backbone.tokenizer, text))) for text in texts]
    return torch.tensor(lengths).reshape(len(pairs), 2)


def frozen_features(
    backbone: Backbone,
    splits: Mapping[str, list[TextPair]],
    model: RewardModel,
    batch_tokens: int,
    checkpoints: Checkpoints,
) -> dict[str, Tensor]:
    """Compute the features (N, 2, F) of each split's pairs under the SFT adapter, in one pass."""
    every = [pair for pairs in splits.values() for pair in pairs]
    features = pair_features(
        backbone, every, model=model, adapter=ADAPTER, batch_tokens=batch_tokens, checkpoints=checkpoints
    )
    return dict(zip(splits, torch.split(features, [len(pairs) for pairs in splits.values()]), strict=True))


class Pieces:
    """Results of numbered batches, saved piece by piece. Each file is written once, so that the cost of a checkpoint
    does not grow with what is already saved; the checkpoint itself only lists the files with their hashes."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._folder = checkpoints.folder / "features"
        self._files: dict[str, str] = {}
        self._new: dict[str, Tensor] = {}
        self.count = 0

    def restore(self) -> dict[int, Tensor]:
        """Read the batches of all whole pieces; a broken piece is named on stderr and computed again."""
        latest = self._checkpoints.latest()
        listed: Mapping[str, str] = latest.state["files"] if latest else {}
        done: dict[int, Tensor] = {}
        for name, digest in listed.items():
            path = self._folder / name
            if not path.is_file() or sha256_file(path) != digest:
                print(f"{path}: broken checkpoint, computing its batches again", file=sys.stderr)  # noqa: T201 - a note for whoever waits
                continue
            self._files[name] = digest
            done |= {int(number): tensor for number, tensor in load_tensors(path).items()}
        self.count = len(done)
        return done

    def add(self, number: int, result: Tensor) -> None:
        """Remember the result of a batch until the next save."""
        self._new[str(number)] = result
        self.count += 1

    def save(self) -> None:
        """Write what is new as one piece, then the checkpoint that lists it; on the process that writes."""
        if self._new and current().is_main:
            name = f"{min(map(int, self._new)):08d}-{len(self._new)}.safetensors"
            save_tensors(self._folder / name, self._new)
            self._files[name] = sha256_file(self._folder / name)
        self._new = {}
        self._checkpoints.save(self.count, {}, {"files": self._files})
