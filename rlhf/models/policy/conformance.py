"""Hold an engine against the model itself: are the numbers that it computes those of the model that was given?

A left-padded batch goes through the engine (scoring, and a few sampled steps with its cache); the same sequences go
through plain transformers and peft one at a time, unpadded (`truth`). What disagrees is not used, whatever the reason:
no list of architectures or of config keys takes part.

How far two right computations may be apart is `allowed`. In float32 1e-3 nats: sums in another order give 1e-6 to 1e-4,
and a wrong attention mask, position or scale gives more than 1e-2. In bfloat16 three times the model's own rounding e,
the largest difference between its answers in bfloat16 and in float32 on the same tokens: an engine that rounds as much
as the model is within e of float32 too, so within 2 e of the model (triangle inequality), and a half is left for the
chance of two maxima over a few dozen tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlhf.core.errors import UserError
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.outputs import Forward
from rlhf.models.policy.probe import STEPS, Probe, Row
from rlhf.models.policy.settings import Sampling
from rlhf.models.policy.truth import Scored, Truth
from rlhf.models.text.one_line import reason_of
from rlhf.models.text.tokens import Episodes, pad_left

FLOAT32_NATS = 1e-3  # also of states and gradients, as a share of the largest
_MEMORY = (MemoryError, torch.OutOfMemoryError)
_ROUNDINGS = 3  # of the model's own, that an engine may be apart from it


@dataclass(frozen=True, slots=True)
class Gap:
    """How far an engine is from the model at its worst."""

    nats: float  # largest difference of a logprob or an entropy
    where: str  # what was computed there
    reason: str | None  # why the engine cannot be used, in one line; None where it can

    @property
    def agrees(self) -> bool:
        """Tell whether the engine can be used."""
        return self.reason is None


def allowed(base: Path, rows: Sequence[Row], *, dtype: torch.dtype, device: torch.device | str) -> float:
    """Compute how many nats two right computations may be apart in `dtype` (the rule is in the module's docstring).

    Other precisions than float32 load the model twice more, one after the other.
    """
    if dtype == torch.float32:
        return FLOAT32_NATS
    low, high = (Truth.load(base, dtype=one, device=device).scores(rows) for one in (dtype, torch.float32))
    rounding = max(_apart(a.logprobs, b.logprobs) for a, b in zip(low, high, strict=True))
    return max(FLOAT32_NATS, _ROUNDINGS * rounding)


@dataclass(frozen=True, slots=True)
class Answers:
    """What an engine says of a probe: of each row, scored and sampled. `failed`: why it could not."""

    scored: tuple[Scored, ...]
    sampled: tuple[tuple[Row, Tensor, Tensor], ...]  # the row with the sampled response, its logprobs and entropies
    failed: str | None = None


def ask(backbone: Backbone, probe: Probe, adapter: str | None) -> Answers:
    """Let an engine score and sample a probe. Whatever it raises is its answer.

    Raises:
        UserError: there is not enough memory, which says nothing of the engine.
    """
    try:
        with torch.no_grad():
            return Answers(tuple(_scored(backbone, probe, adapter)), tuple(_sampled(backbone, probe, adapter)))
    except _MEMORY as error:
        raise UserError(f"not enough memory to check the model ({reason_of(error)})") from error
    except Exception as error:
        return Answers((), (), str(error) if isinstance(error, UserError) else reason_of(error))


def compare(answers: Answers, truth: Truth, probe: Probe, nats: float) -> Gap:
    """Compare an engine's answers with the model's own; `nats` is what they may be apart."""
    if answers.failed:
        return Gap(float("inf"), "running", f"it cannot run ({answers.failed})")
    try:
        own = truth.scores(probe.rows)
        again = truth.scores([row for row, _, _ in answers.sampled])
    except _MEMORY as error:
        raise UserError(f"not enough memory to check the model ({reason_of(error)})") from error
    except Exception as error:
        return Gap(float("inf"), "running", f"transformers cannot score a plain sequence ({reason_of(error)})")
    worst = Gap(0.0, "", None)
    for said, true in zip(answers.scored, own, strict=True):
        for name, a, b in (("logprobs", said.logprobs, true.logprobs), ("entropies", said.entropy, true.entropy)):
            worst = _worse(worst, _apart(a, b), f"{name} of given responses")
    for (_, logprobs, entropy), true in zip(answers.sampled, again, strict=True):
        for name, a, b in (("logprobs", logprobs, true.logprobs), ("entropies", entropy, true.entropy)):
            worst = _worse(worst, _apart(a, b), f"{name} of sampled responses")
    if not worst.nats <= nats:
        said_so = "are not numbers" if worst.nats != worst.nats else f"are {worst.nats:.2g} nats apart"
        return Gap(worst.nats, worst.where, f"{worst.where} {said_so}; {nats:.2g} is allowed")
    share = _states_apart(answers.scored, own)
    if not share <= max(nats, FLOAT32_NATS):
        return Gap(
            worst.nats, worst.where, f"hidden states are {share:.2g} of the largest apart; {nats:.2g} is allowed"
        )
    return worst


def _scored(backbone: Backbone, probe: Probe, adapter: str | None) -> Iterable[Scored]:
    episodes = episodes_of(backbone, probe)
    forward = backbone.forward(episodes, adapter=adapter, temperature=1.0)
    yield from (_row(forward, episodes, index) for index in range(len(episodes)))


def _row(forward: Forward, episodes: Episodes, index: int) -> Scored:
    real, mask = episodes.mask[index], episodes.sequence_mask[index]
    return Scored(forward.logprobs[index][real], forward.entropy[index][real], forward.hidden[index][mask])


def _sampled(backbone: Backbone, probe: Probe, adapter: str | None) -> Iterable[tuple[Row, Tensor, Tensor]]:
    """Sample in one batch. A row that ends at once shows nothing of the cache: then all draw with other numbers."""
    ids, mask = pad_left(probe.prompts, backbone.pad_id, backbone.device)
    for turn in (0.0, 0.29, 0.53, 0.79):
        uniforms = ((probe.uniforms + turn) % 1.0).to(backbone.device)
        made = backbone.generate(ids, mask, Sampling(STEPS, 1.0), adapter=adapter, uniforms=uniforms)
        if int(made.mask.sum(1).min()) > 1:
            break
    for index, prompt in enumerate(probe.prompts):
        real = made.mask[index]
        response = tuple(made.response_ids[index][real].tolist())
        yield (prompt, response), made.logprobs[index][real], made.entropy[index][real]


def episodes_of(backbone: Backbone, probe: Probe) -> Episodes:
    """Make the probe's left-padded batch."""
    return Episodes.of(probe.prompts, probe.responses, pad_id=backbone.pad_id, device=backbone.device)


def _apart(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, NaN where either holds one."""
    return float((a.double().cpu() - b.double().cpu()).abs().max())


def _worse(worst: Gap, nats: float, where: str) -> Gap:
    return worst if worst.nats != worst.nats or nats <= worst.nats else Gap(nats, where, None)


def _states_apart(said: Sequence[Scored], true: Sequence[Scored]) -> float:
    """Return the largest difference of hidden states as a share of the largest state; 0 where a model hides them."""
    pairs = [(a.states, b.states) for a, b in zip(said, true, strict=True)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None and a.shape == b.shape]
    largest = max((float(b.abs().max()) for _, b in known), default=1.0)
    return max((_apart(a, b) for a, b in known), default=0.0) / max(largest, 1e-12)
