"""A linear reward head on pooled hidden states of a backbone."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlhf.core.artifacts import load_tensors, read_json, save_tensors, write_json
from rlhf.core.errors import UserError
from rlhf.models.ensemble import SINGLE, Ensemble
from rlhf.models.tokens import Episodes

Pooling = Literal["mean", "last", "attention"]
PoolOver = Literal["sequence", "response"]


class RewardModel(nn.Module):
    """score = (w . pool(hidden) + b - mean) / std, in units of the reference policy's spread.

    `pooling`: mean over real tokens, the last real token, or attention: a mean weighted by softmax(q . hidden) with a
    learned q, which starts as the plain mean (one query of Vaswani et al. 2017, eq. 1). `pool_over`: prompt and
    response, or the response alone. `mean`, `std`: of the raw score on responses of the reference policy (lm-hp
    normalises the same way). `backbone_adapter`: path of the adapter whose hidden states it was fitted on.
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
    ) -> None:
        """The head starts at 0; `reward` fits it."""
        super().__init__()
        self.head = nn.Linear(hidden_size, ensemble.members)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.query = nn.Parameter(torch.zeros(hidden_size)) if pooling == "attention" else None
        self.pooling, self.pool_over, self.backbone_adapter = pooling, pool_over, backbone_adapter
        self.mean, self.std, self.ensemble = mean, std, ensemble

    @property
    def hidden_size(self) -> int:
        """D."""
        return self.head.in_features

    def pool(self, hidden: Float[Tensor, "B T D"], episodes: Episodes) -> Float[Tensor, "B D"]:
        """Features of each episode, in float32. An empty response pooled over "response" gives zeros."""
        if hidden.shape[-1] != self.hidden_size:
            raise UserError(f"reward model: fitted on {self.hidden_size} features, the backbone has {hidden.shape[-1]}")
        mask = episodes.sequence_mask.clone()
        if self.pool_over == "response":
            mask[:, : episodes.prompt_ids.shape[1]] = False
        if self.pooling == "last":
            places = torch.arange(mask.shape[1], device=mask.device)
            mask = mask & (places == (places * mask).amax(1, keepdim=True))
        weights = (mask / mask.sum(1, keepdim=True).clamp_min(1)).float()
        if self.query is not None:
            odds = (hidden.float() @ self.query).masked_fill(~mask, -torch.inf).softmax(1)
            weights = torch.where(mask.any(1, keepdim=True), odds, weights)
        return torch.einsum("bt,btd->bd", weights, hidden.float())

    def score_features(self, features: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Normalised scores of pooled features, on the head's device (features may come from another one)."""
        return (self.ensemble.combine(self.member_scores(features)) - self.mean) / self.std

    def member_scores(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Raw scores of each head: sigmoid of a difference is the probability that the first is preferred."""
        raw: Tensor = self.head(features.to(self.head.weight))
        return raw

    def score(self, hidden: Float[Tensor, "B T D"], episodes: Episodes) -> Float[Tensor, " B"]:
        """Normalised scores of episodes, from the frozen backbone's hidden states."""
        return self.score_features(self.pool(hidden, episodes))

    def save(self, folder: Path) -> None:
        """Write head.safetensors and reward.json."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        if self.query is not None:
            state["query"] = self.query.detach().cpu().contiguous()
        # mean and std as tensors too: JSON keeps 6 digits, and scores should not depend on that.
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
        write_json(folder / "reward.json", about)

    @classmethod
    def load(cls, folder: Path, *, hidden_size: int | None = None, adapter: str | None = None) -> "RewardModel":
        """Read what `save` wrote. UserError if it is incomplete, or of another hidden size or adapter than given."""
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
        query = tensors.pop("query", None)
        model = cls(
            about["hidden_size"],
            pooling=about["pooling"],
            pool_over=about["pool_over"],
            backbone_adapter=about["adapter"],
            mean=mean,
            std=std,
            ensemble=Ensemble(**about["ensemble"]),
        )
        model.head.load_state_dict(tensors)
        if model.query is not None:
            if query is None:
                raise UserError(f"{folder}/head.safetensors: no query; pooling is attention in reward.json")
            model.query.data.copy_(query)
        return model.requires_grad_(False).eval()
