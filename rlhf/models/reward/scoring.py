"""Features of a backbone, and a reward model ready to score text.

scorer = Scorer.load(Path("artifacts/base"), Path("artifacts/sft"), Path("artifacts/reward"))
scorer.score_texts(["\\n\\nHuman: Where is Paris?\\n\\nAssistant:"], [" In France."])  # -> [0.83]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.artifacts import read_json, sha256_tree, write_json
from rlhf.core.errors import UserError
from rlhf.core.processes import current
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.reward_model import RewardModel, logprob_features
from rlhf.models.text.tokens import Episodes, encode_prompt, encode_response

Row = tuple[Sequence[int], Sequence[int]]  # ids of a prompt and of the response to it
ADAPTER = "sft"  # the name under which a backbone holds the SFT adapter
REWARD = "reward"  # the name of the reward model's own adapter, where its backbone was trained too


Known = dict[tuple[tuple[int, ...], tuple[int, ...]], float]  # scores of rows


@dataclass(frozen=True, slots=True)
class Scorer:
    """A reward model on the backbone that it was fitted on. Scores are in standard deviations of SFT responses.

    Each distinct row is scored once, so that equal texts have equal scores: computed twice, in batches of other shapes,
    a score may differ in its last digit, and a tie would be counted as won or lost. `known` holds that over calls;
    None, where weights still change, holds it within a call.
    """

    backbone: Backbone
    reward: RewardModel
    adapter: str  # the one under which the reward model reads the backbone: ADAPTER or REWARD
    known: Known | None = None

    @classmethod
    def load(
        cls, base: Path, sft: Path, reward: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> "Scorer":
        """Load the three folders.

        Raises:
            UserError: one is incomplete, or the reward model is of another backbone.
        """
        model, adapters = load_reward(reward, base=base, sft=sft), reward_adapters(reward, sft=sft)
        backbone = Backbone.load(base, adapters, dtype=dtype, device=device)
        return cls(backbone, model.to(device), read_under(adapters))

    def score_texts(
        self, prompts: Sequence[str], responses: Sequence[str], *, ended: bool = True, batch_tokens: int = 8192
    ) -> list[float]:
        """Score responses to prompts; text as in the pairs ("\\n\\nHuman: …\\n\\nAssistant:" and " …")."""
        tokenizer = self.backbone.tokenizer
        pairs = zip(prompts, responses, strict=True)
        rows = [(encode_prompt(tokenizer, p), encode_response(tokenizer, r, ended=ended)) for p, r in pairs]
        return self.score_rows(rows, batch_tokens=batch_tokens)

    def score_samples(self, samples: Sequence[Sample], *, batch_tokens: int) -> list[float]:
        """Score sampled responses as they were sampled: token by token, cut off where they did not end."""
        rows = [(encode_prompt(self.backbone.tokenizer, sample.prompt), sample.response_ids) for sample in samples]
        return self.score_rows(rows, batch_tokens=batch_tokens)

    def score_rows(self, rows: Sequence[Row], *, batch_tokens: int) -> list[float]:
        """Score token ids, in their order; at most `batch_tokens` tokens, padding included, go through at once.

        Processes that share a run share these batches.
        """
        known: Known = {} if self.known is None else self.known
        keys = [(tuple(prompt), tuple(response)) for prompt, response in rows]
        new = [key for key in dict.fromkeys(keys) if key not in known]
        batches = length_batches([len(p) + len(r) for p, r in new], batch_tokens)
        parts = [[new[i] for i in batch] for batch in batches]
        for part, scores in zip(parts, current().map(parts, self._of_batch), strict=True):
            known.update(zip(part, scores, strict=True))
        return [known[key] for key in keys]

    def _of_batch(self, rows: Sequence[Row]) -> list[float]:
        features = pooled(self.backbone, rows, model=self.reward, adapter=self.adapter)
        lengths = torch.tensor([float(len(response)) for _, response in rows])
        scores: list[float] = self.reward.score_features(features, lengths).tolist()
        return scores


def reward_adapters(reward: Path, *, sft: Path) -> dict[str, Path]:
    """Find the adapters that a backbone needs for the reward model in `reward`, by the names of this module."""
    own = reward / "adapter"
    return {ADAPTER: sft, REWARD: own} if own.is_dir() else {ADAPTER: sft}


def read_under(adapters: Mapping[str, Path]) -> str:
    """Name the adapter under which the reward model reads, of those that `reward_adapters` gives."""
    return REWARD if REWARD in adapters else ADAPTER


@torch.no_grad()
def pooled(backbone: Backbone, rows: Sequence[Row], *, model: RewardModel, adapter: str) -> Float[Tensor, "B F"]:
    """Compute the features (float32) of one batch of prompts with responses, as `model` pools them."""
    prompts, responses = [p for p, _ in rows], [r for _, r in rows]
    episodes = Episodes.of(prompts, responses, pad_id=backbone.pad_id, device=backbone.device)
    return pooled_episodes(backbone, episodes, model=model, adapter=adapter)


def pooled_episodes(
    backbone: Backbone, episodes: Episodes, *, model: RewardModel, adapter: str
) -> Float[Tensor, "B F"]:
    """Compute the features (float32) of episodes, with gradients where they are enabled; F is `model.feature_size`."""
    if model.logprobs:
        forward = backbone.forward(episodes, adapter=adapter, temperature=1.0)
        likely = logprob_features(forward.logprobs, episodes.mask)
        return torch.cat((model.pool(forward.hidden, episodes), likely), dim=1)
    # As one long prompt without a response: no logits are made, which would cost more than small backbones do.
    whole = Episodes(episodes.sequence_ids, episodes.sequence_mask, episodes.response_ids[:, :0], episodes.mask[:, :0])
    hidden = backbone.forward(whole, adapter=adapter, temperature=1.0).hidden
    return model.pool(hidden, episodes)


def length_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Batch indices of rows of like length, shortest first.

    Each batch, padded to its longest row, holds at most `batch_tokens` tokens, or one row that alone is longer. Ties
    keep their order, so that batches are reproducible.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def save_reward(model: RewardModel, folder: Path, *, base: Path, sft: Path, tuned: Backbone | None = None) -> None:
    """Write a reward model with the hashes of the backbone that it belongs to (backbone.json).

    `tuned`: the backbone whose adapter REWARD was trained with the head; it goes to adapter/ in peft form.
    """
    model.save(folder)
    if tuned is not None:
        tuned.save_adapter(REWARD, folder / "adapter")
    write_json(folder / "backbone.json", {"base": sha256_tree(base), "sft": sha256_tree(sft)})


def load_reward(folder: Path, *, base: Path, sft: Path) -> RewardModel:
    """Read a reward model for this base and SFT adapter.

    Raises:
        UserError: it is incomplete, or was fitted on other weights: its scores would be noise, and look like scores.
    """
    model = RewardModel.load(folder)
    known = read_json(folder / "backbone.json")
    for name, path in (("base", base), ("sft", sft)):
        if sha256_tree(path) != known.get(name):
            raise UserError(
                f"{folder}: this reward model was fitted on another {name} model than {path}; "
                "fit it again (stage reward), or point to the one it was fitted on"
            )
    return model


def prompts_that_fit(backbone: Backbone, prompts: Sequence[str], new_tokens: int) -> list[str]:
    """Select the prompts that leave room for `new_tokens` in the context, in their order.

    Raises:
        UserError: none does.
    """
    fit = [p for p in prompts if len(encode_prompt(backbone.tokenizer, p)) + new_tokens <= backbone.context]
    if not fit:
        raise UserError(
            f"none of {len(prompts)} prompts leaves room for {new_tokens} new tokens in the context of "
            f"{backbone.context}: lower response_tokens or data.max_tokens"
        )
    return fit
