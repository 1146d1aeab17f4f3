"""What a batch says of its policy, worked by hand."""

import math

import pytest
import torch

from rlhf.models.text.tokens import Episodes
from rlhf.ppo.rollout import episode_kl, measure
from rlhf.ppo.types import Advantages, Answers, Prompt, Rollout

EPISODES = Episodes.of([[5], [5]], [[1, 2, 3], [4]], pad_id=0, device="cpu")
LOGPROBS = torch.tensor([[-1.0, -2.0, -1.0], [-0.3, 0.0, 0.0]])
ROLLOUT = Rollout(
    Answers(
        prompts=(Prompt("a", "a", (5,)), Prompt("b", "b", (5,))),
        episodes=EPISODES,
        ended=torch.tensor([True, False]),
        sampler_logprobs=LOGPROBS + torch.tensor([[0.0, 0.01, 0.0], [-0.02, 9.0, 9.0]]),
        logprobs=LOGPROBS,
        entropy=torch.tensor([[1.0, 2.0, 3.0], [6.0, 0.0, 0.0]]),
        values=torch.tensor([[1.0, 2.0, 3.0], [2.0, 0.0, 0.0]]),
    ),
    ref_logprobs=torch.tensor([[-1.5, -2.0, -0.5], [-1.5, 0.0, 0.0]]),
    scores=torch.tensor([2.5, -1.0]),
)


def test_every_measure_by_hand() -> None:
    returns = torch.tensor([[1.0, 2.0, 4.0], [1.0, 0.0, 0.0]])
    rewards = torch.tensor([[0.0, 0.5, 1.0], [-0.25, 0.0, 0.0]])
    found = measure(ROLLOUT, Advantages(rewards, torch.zeros(2, 3), returns), rewards=rewards)
    # log p - log q: 0.5, 0, -0.5 and 1.2
    k3 = [math.exp(-0.5) - 1 + 0.5 + math.exp(0.5) - 1 - 0.5, math.exp(-1.2) - 1 + 1.2]
    expected = {
        "score": 0.75,
        "score_std": 1.75,
        "reward": (1.5 - 0.25) / 2,
        "kl": (0.0 + 1.2) / 2,
        "kl_k2": (0.125 + 0.125 + 0.72) / 2,
        "kl_k3": sum(k3) / 2,
        "entropy": 12 / 4,  # over the four real tokens
        "length": 2.0,
        "ended": 0.5,
        "explained_variance": 1 - 0.5 / 1.5,  # errors 0 0 1 -1, returns 1 2 4 1
        "sampler_gap": 0.02,
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-6)


def test_the_kl_of_each_episode() -> None:
    assert episode_kl(ROLLOUT).tolist() == pytest.approx([0.0, 1.2], abs=1e-6)
