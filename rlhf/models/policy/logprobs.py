"""Log-probabilities, entropy and sampling at a temperature: pure functions of logits."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def token_logprobs(logits: Float[Tensor, "*N V"], ids: Int[Tensor, "*N"], *, temperature: float) -> Float[Tensor, "*N"]:
    """Compute log softmax(logits / temperature)[ids], in nats, at least in float32.

    The sampling temperature enters every logprob pass, else a KL would be of other distributions than those sampled
    from (lm-human-preferences, `policy.py`).
    """
    tempered = _tempered(logits, temperature)
    chosen = tempered.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return chosen - tempered.logsumexp(-1)


def token_entropy(logits: Float[Tensor, "*N V"], *, temperature: float) -> Float[Tensor, "*N"]:
    """Compute the entropy of softmax(logits / temperature), log Z - sum p * logit / temperature, in nats."""
    tempered = _tempered(logits, temperature)
    log_total = tempered.logsumexp(-1)
    weights = (tempered - log_total.unsqueeze(-1)).exp()
    # A logit of -inf has weight 0, and 0 * -inf would be NaN.
    return log_total - (weights * tempered.clamp_min(torch.finfo(tempered.dtype).min)).sum(-1)


def chunked(
    head: Callable[[Float[Tensor, "N D"]], Float[Tensor, "N V"]],
    hidden: Float[Tensor, "N D"],
    ids: Int[Tensor, " N"],
    *,
    temperature: float,
    rows: int,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Compute logprobs and entropies of `ids` (nats), with logits for only `rows` tokens at a time.

    Without gradients no more than rows * V logits exist at once. With them autograd keeps every chunk.
    Entropies carry no gradient.
    """
    logprobs, entropies = [hidden.new_zeros(0, dtype=torch.float32)], [hidden.new_zeros(0, dtype=torch.float32)]
    for part, part_ids in zip(torch.split(hidden, rows), torch.split(ids, rows), strict=True):
        logits = head(part)
        logprobs.append(token_logprobs(logits, part_ids, temperature=temperature))
        with torch.no_grad():
            entropies.append(token_entropy(logits, temperature=temperature))
    return torch.cat(logprobs), torch.cat(entropies)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One sampled token for each row."""

    ids: Int[Tensor, " B"]
    logprobs: Float[Tensor, " B"]  # nats, at the temperature
    entropy: Float[Tensor, " B"]  # nats, of the tempered distribution


def draw(logits: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"] | None, *, temperature: float) -> Drawn:
    """Draw one token for each row: the inverse of the distribution function at `uniforms` in [0, 1); None is greedy.

    A row's token depends on its own logits and uniform alone, so neither the order nor the split of a batch
    changes it.
    """
    logs = torch.log_softmax(_tempered(logits, temperature), dim=-1)
    probabilities = logs.exp()
    ids = logits.argmax(-1) if uniforms is None else _inverse(probabilities, uniforms)
    chosen = logs.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    # A logit of -inf has probability 0, and 0 * -inf would be NaN.
    finite = logs.clamp_min(torch.finfo(logs.dtype).min)
    return Drawn(ids, chosen, -torch.linalg.vecdot(probabilities, finite))


def _inverse(probabilities: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    threshold = uniforms.to(cumulative).unsqueeze(-1) * total
    chosen = torch.searchsorted(cumulative, threshold, right=True)
    # Rounding may push a threshold up to the total: the last token of non-zero probability then.
    last = torch.searchsorted(cumulative, total)
    return torch.minimum(chosen, last).squeeze(-1)


def _tempered(logits: Float[Tensor, "*N V"], temperature: float) -> Float[Tensor, "*N V"]:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide if temperature == 1.0 else wide / temperature
