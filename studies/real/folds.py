"""How well frozen features tell the better reply of a pair, judged by heads that never saw its prompt.

Features of all pairs are computed in one pass of the frozen model; five heads of each kind are then fitted, each on
four fifths of the prompts, and judge the fifth that is left (cross-validation: Stone 1974). Beside them stand the rule
"the longer reply wins" and, where one is there, the same linear head on a frozen sentence encoder.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.layout import Layout
from rlhf.core.params import read_section
from rlhf.core.seeding import rng
from rlhf.core.stats import paired_difference, tied_rate, wins
from rlhf.models.fast.engine import load_checked
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER
from rlhf.reward.encoder import encoder_features, load_encoder, on_encoder
from rlhf.reward.features import pair_features
from rlhf.reward.fit import FitSettings, fit_head
from rlhf.reward.fit_frozen import fit_settings
from rlhf.reward.fit_mlp import fit_mlp
from rlhf.reward.pairs import TextPair, read_pairs, unique_prompts
from rlhf.reward.params import RewardParams
from rlhf.reward.types import SPLITS

Features = Float[Tensor, "N 2 F"]
Fit = Callable[[Features, Features], Callable[[Features], Float[Tensor, "*N"]]]  # of training and validation pairs

FOLDS = 5
VALIDATION = 0.1  # of the prompts that a head is fitted on, to choose its epoch by
UNITS = 64  # of the head with a hidden layer


def cross_validated(at: Layout, encoder: Path | None, seed: int) -> dict[str, Any]:
    """Judge every pair that `prepare` kept, of all three splits, under the SFT adapter.

    Returns:
        pairs, accuracy with interval of each head ("linear", "hidden", "encoder") and of "length", and
        "<head>_over_length": the paired difference. A tie is half a win.
    """
    pairs = [pair for split in SPLITS for pair in read_pairs(at.pairs / f"{split}.jsonl")]
    params = read_section(at.resolved, "reward", RewardParams)
    settings = fit_settings(params)
    states, logprobs = _of_model(at, pairs, params)
    margins = {
        "linear": out_of_fold(pairs, states, _linear(settings, seed), seed),
        "hidden": out_of_fold(pairs, torch.cat((states, logprobs), dim=2), _hidden(settings, seed), seed),
    }
    if encoder is not None:
        found = _of_encoder(at, pairs, encoder, params.batch_tokens)
        margins["encoder"] = out_of_fold(pairs, found, _linear(on_encoder(settings), seed), seed)
    return {"pairs": len(pairs), **judged(pairs, margins, seed)}


def judged(pairs: Sequence[TextPair], margins: Mapping[str, Sequence[float]], seed: int) -> dict[str, Any]:
    """Compute each head's accuracy from its margins, and by how much it is better than length on the same pairs."""
    length = wins([float(len(pair.chosen) - len(pair.rejected)) for pair in pairs])
    found: dict[str, Any] = dict(tied_rate(length).named("length"))
    for name, own in margins.items():
        found |= tied_rate(wins(own)).named(name)
        found |= paired_difference(wins(own), length, seed).named(f"{name}_over_length")
    return found


def out_of_fold(pairs: Sequence[TextPair], features: Features, fit: Fit, seed: int) -> list[float]:
    """Score each pair, chosen less rejected, by a head that was fitted on the prompts of the other folds."""
    prompts = unique_prompts(pairs)
    rng(seed, "helpful", "folds").shuffle(prompts)
    fold = {prompt: number % FOLDS for number, prompt in enumerate(prompts)}
    chooses = {prompt for number, prompt in enumerate(prompts) if number // FOLDS % round(1 / VALIDATION) == 0}
    margins = torch.zeros(len(pairs), dtype=torch.float64)
    for number in range(FOLDS):
        left = [i for i, pair in enumerate(pairs) if fold[pair.prompt] == number]
        rest = [i for i, pair in enumerate(pairs) if fold[pair.prompt] != number]
        train = [i for i in rest if pairs[i].prompt not in chooses]
        validation = [i for i in rest if pairs[i].prompt in chooses]
        scores = fit(features[train], features[validation])(features[left]).double()
        margins[left] = scores[:, 0] - scores[:, 1]
    return margins.tolist()


def _of_model(at: Layout, pairs: Sequence[TextPair], params: RewardParams) -> tuple[Features, Features]:
    """Compute mean hidden states over the reply, and what the model makes of the reply's likelihood."""
    backbone = load_checked(
        at.base, {ADAPTER: at.sft}, engine=params.engine, dtype=torch.float32, device="cpu", decided=at.conformance
    )
    model = RewardModel(
        backbone.hidden_size, pooling="mean", pool_over="response", backbone_adapter="artifacts/sft", logprobs=True
    )
    found = pair_features(
        backbone, pairs, model=model, adapter=ADAPTER, batch_tokens=params.batch_tokens, checkpoints=_kept(at, "model")
    )
    return found[:, :, : backbone.hidden_size], found[:, :, backbone.hidden_size :]


def _of_encoder(at: Layout, pairs: Sequence[TextPair], folder: Path, batch_tokens: int) -> Features:
    referee = load_encoder(folder, torch.device("cpu"))
    assert referee is not None
    return encoder_features(referee, {"all": pairs}, batch_tokens, _kept(at, "encoder")).parts["all"]


def _kept(at: Layout, name: str) -> Checkpoints:
    """Where finished batches are kept: a study that is stopped goes on, and other seeds' heads read the same."""
    return Checkpoints(at.artifacts.parent / ".features" / name, every_s=60.0, every_steps=0)


def _linear(settings: FitSettings, seed: int) -> Fit:
    def fit(train: Features, validation: Features) -> Callable[[Features], Float[Tensor, "*N"]]:
        return fit_head(train, validation, settings, seed=seed).head.scores

    return fit


def _hidden(settings: FitSettings, seed: int) -> Fit:
    def fit(train: Features, validation: Features) -> Callable[[Features], Float[Tensor, "*N"]]:
        head = fit_mlp(train, validation, settings, units=UNITS, seed=seed, weights=None, on_epoch=lambda _: None).head

        def scores(features: Features) -> Float[Tensor, "*N"]:
            inner = torch.nn.functional.gelu(features.double() @ head.inner.T + head.inner_bias)
            return inner @ head.outer + head.bias

        return scores

    return fit
