"""Compute mean, variance and whitening over the real tokens of a padded tensor.

`mask` is True on real tokens. Masked entries are never read, so a NaN in the padding does no harm. Over no real
token at all a mean is 0/0 = NaN, which is what the training guards look for.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EPSILON = 1e-8  # added to the variance before its root, as in lm-human-preferences (utils/core.py, whiten)


def keep(x: Float[Tensor, "*A"], mask: Bool[Tensor, "*A"]) -> Float[Tensor, "*A"]:
    """Keep `x` at real tokens and put 0 elsewhere, whatever stood there; no gradient reaches masked entries."""
    return torch.where(mask, x, torch.zeros_like(x))


def masked_sum(x: Float[Tensor, "*A"], mask: Bool[Tensor, "*A"], dim: int | None = None) -> Float[Tensor, "*Z"]:
    """Sum over real tokens, of everything or along `dim`."""
    kept = keep(x, mask)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(x: Float[Tensor, "*A"], mask: Bool[Tensor, "*A"], dim: int | None = None) -> Float[Tensor, "*Z"]:
    """Average over real tokens, of everything (every token weighs the same) or along `dim`."""
    count = mask.sum() if dim is None else mask.sum(dim)
    return masked_sum(x, mask, dim) / count


def masked_var(x: Float[Tensor, "*A"], mask: Bool[Tensor, "*A"], *, unbiased: bool) -> Float[Tensor, ""]:
    """Compute the variance over real tokens: sum of squared deviations / n, or / (n - 1) if `unbiased`."""
    deviations = keep(x - masked_mean(x, mask), mask)
    return deviations.square().sum() / (mask.sum() - int(unbiased))


def whiten(x: Float[Tensor, "*A"], mask: Bool[Tensor, "*A"], *, shift_mean: bool) -> Float[Tensor, "*A"]:
    """Compute (x - mean) / sqrt(var + 1e-8) over real tokens, biased variance; masked entries become 0.

    With `shift_mean` the result has mean 0; without it the mean is put back afterwards, so that only the scale
    changes about the mean. lm-human-preferences, utils/core.py, `whiten`.
    """
    mean = masked_mean(x, mask)
    whitened = (x - mean) * torch.rsqrt(masked_var(x, mask, unbiased=False) + EPSILON)
    if not shift_mean:
        whitened = whitened + mean
    return keep(whitened, mask)
