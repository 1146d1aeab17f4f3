"""A reward head on pooled hidden states of a backbone, and on how likely the backbone finds the response."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rlhf.core.artifacts import load_tensors, read_json, save_tensors, write_json
from rlhf.core.errors import UserError
from rlhf.models.reward.ensemble import SINGLE, Ensemble
from rlhf.models.reward.heads import make_heads
from rlhf.models.reward.length_correction import UNCORRECTED, LengthCorrection
from rlhf.models.text.tokens import Episodes

Pooling = Literal["mean", "last", "attention"]
PoolOver = Literal["sequence", "response"]
_LOGPROBS = 3  # features that `logprob_features` gives


class RewardModel(nn.Module):
    """score = (r - mean) / std with r = w . pool(hidden) + b, in units of the reference policy's spread.

    `pooling`: mean over real tokens, the last real token, or attention: a mean weighted by softmax(q . hidden) with a
    learned q, which starts as the plain mean (one query of Vaswani et al. 2017, eq. 1). `pool_over`: prompt and
    response, or the response alone. `mean`, `std`: of the raw score on responses of the reference policy (lm-hp
    normalises the same way). `logprobs`: the features also hold `logprob_features` of the response under the backbone.
    `head_units`: of a hidden layer of the head, 0 for a linear one. `correction`: of r by the response's length, before
    mean and std. `backbone_adapter`: path of the adapter whose hidden states it was fitted on.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        pooling: Pooling,
        pool_over: PoolOver,
        backbone_adapter: str,
        mean: float = 0.0,
        std: float = 1.0,
        ensemble: Ensemble = SINGLE,
        logprobs: bool = False,
        head_units: int = 0,
        correction: LengthCorrection = UNCORRECTED,
    ) -> None:
        """The head starts at 0; `reward` fits it."""
        super().__init__()
        self.head = make_heads(hidden_size + _LOGPROBS * logprobs, ensemble.members, head_units)
        self.query = nn.Parameter(torch.zeros(hidden_size)) if pooling == "attention" else None
        self.pooling, self.pool_over, self.backbone_adapter = pooling, pool_over, backbone_adapter
        self.mean, self.std, self.ensemble = mean, std, ensemble
        self.hidden_size, self.logprobs, self.head_units, self.correction = (
            hidden_size,
            logprobs,
            head_units,
            correction,
        )

    @property
    def feature_size(self) -> int:
        """Return how many features the head reads: the hidden size D, and those that `logprobs` adds."""
        return self.hidden_size + _LOGPROBS * self.logprobs

    @property
    def is_plain(self) -> bool:
        """Tell whether the score is a linear function of pooled states and nothing else."""
        return not (self.logprobs or self.head_units or self.correction.kind != "none")

    @property
    def line(self) -> nn.Linear:
        """Return the linear head of a plain model (`is_plain`).

        Raises:
            ValueError: the head has a hidden layer.
        """
        if not isinstance(self.head, nn.Linear):
            raise ValueError("this reward model's head has a hidden layer")
        return self.head

    def pool(self, hidden: Float[Tensor, "B T D"], episodes: Episodes) -> Float[Tensor, "B D"]:
        """Pool the features of each episode, in float32. An empty response pooled over "response" gives zeros.

        Raises:
            UserError: the backbone has another hidden size.
        """
        if hidden.shape[-1] != self.hidden_size:
            raise UserError(f"reward model: fitted on {self.hidden_size} features, the backbone has {hidden.shape[-1]}")
        mask = episodes.sequence_mask.clone()
        if self.pool_over == "response":
            mask[:, : episodes.prompt_ids.shape[1]] = False
        if self.pooling == "last":
            columns = torch.arange(mask.shape[1], device=mask.device)
            mask = mask & (columns == (columns * mask).amax(1, keepdim=True))
        weights = (mask / mask.sum(1, keepdim=True).clamp_min(1)).float()
        if self.query is not None:
            odds = (hidden.float() @ self.query).masked_fill(~mask, -torch.inf).softmax(1)
            weights = torch.where(mask.any(1, keepdim=True), odds, weights)
        return torch.einsum("bt,btd->bd", weights, hidden.float())

    def score_features(self, features: Float[Tensor, "B F"], lengths: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Compute normalised scores, on the head's device (features may come from another one).

        `lengths`: tokens of each response, the EOS included. F: `feature_size`.
        """
        raw = self.ensemble.combine(self.member_scores(features))
        return (self.correction.apply(raw, lengths) - self.mean) / self.std

    def member_scores(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """Compute the raw scores of each head; sigmoid of a difference is the probability that the first is better."""
        raw: Tensor = self.head(features.to(self.head.bias))
        return raw

    def score(self, hidden: Float[Tensor, "B T D"], episodes: Episodes) -> Float[Tensor, " B"]:
        """Compute normalised scores of episodes, from the frozen backbone's hidden states.

        Raises:
            ValueError: it reads logprobs too (`rlhf.models.reward.scoring.pooled_episodes` has both).
        """
        if self.logprobs:
            raise ValueError("this reward model reads logprobs, hidden states are not enough")
        return self.score_features(self.pool(hidden, episodes), response_lengths(episodes))

    def save(self, folder: Path) -> None:
        """Write head.safetensors and reward.json."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        if self.query is not None:
            state["query"] = self.query.detach().cpu().contiguous()
        # mean and std as tensors too: JSON keeps 6 digits, and scores should not depend on that.
        if self.correction.kind == "regression":
            line = [self.correction.slope, self.correction.intercept]
            state["length_line"] = torch.tensor(line, dtype=torch.float64)
        state["normalisation"] = torch.tensor([self.mean, self.std], dtype=torch.float64)
        save_tensors(folder / "head.safetensors", state)
        about = {
            "pooling": self.pooling,
            "pool_over": self.pool_over,
            "mean": self.mean,
            "std": self.std,
            "hidden_size": self.hidden_size,
            "adapter": self.backbone_adapter,
            "ensemble": asdict(self.ensemble),
        }
        about |= {"logprobs": True} if self.logprobs else {}
        about |= {"head_units": self.head_units} if self.head_units else {}
        about |= {"length_correction": self.correction.kind} if self.correction.kind != "none" else {}
        write_json(folder / "reward.json", about)

    @classmethod
    def load(cls, folder: Path, *, hidden_size: int | None = None, adapter: str | None = None) -> "RewardModel":
        """Read what `save` wrote.

        Raises:
            UserError: it is incomplete, or of another hidden size or adapter than given.
        """
        for file in ("reward.json", "head.safetensors"):
            if not (folder / file).is_file():
                raise UserError(f"{folder}: no {file}; a reward model is needed there")
        about = read_json(folder / "reward.json")
        for key, found, wanted in (
            ("hidden_size", about["hidden_size"], hidden_size),
            ("adapter", about["adapter"], adapter),
        ):
            if wanted is not None and found != wanted:
                raise UserError(f"{folder}/reward.json: {key} is {found!r}, the backbone's is {wanted!r}")
        tensors = load_tensors(folder / "head.safetensors")
        mean, std = tensors.pop("normalisation").tolist()
        query, line = tensors.pop("query", None), tensors.pop("length_line", torch.zeros(2)).tolist()
        model = cls(
            about["hidden_size"],
            pooling=about["pooling"],
            pool_over=about["pool_over"],
            backbone_adapter=about["adapter"],
            mean=mean,
            std=std,
            ensemble=Ensemble(**about["ensemble"]),
            logprobs=about.get("logprobs", False),
            head_units=about.get("head_units", 0),
            correction=LengthCorrection(about.get("length_correction", "none"), *line),
        )
        model.head.load_state_dict(tensors)
        if model.query is not None:
            if query is None:
                raise UserError(f"{folder}/head.safetensors: no query; pooling is attention in reward.json")
            model.query.data.copy_(query)
        return model.requires_grad_(False).eval()


def logprob_features(logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]) -> Float[Tensor, "B F"]:
    """Compute three features of how likely the backbone finds a response; 0 for an empty one.

    They are the mean and the lowest log-probability of its tokens, in nats, and the sum, in tens of nats, so that it is
    of the size of the others.
    """
    total, count = logprobs.sum(1), mask.sum(1).clamp_min(1)
    return torch.stack((total / count, logprobs.masked_fill(~mask, 0.0).amin(1), total / 10), dim=1).float()


def response_lengths(episodes: Episodes) -> Float[Tensor, " B"]:
    """Count the tokens of each response, the EOS included."""
    return episodes.mask.sum(1).float()
