"""Simulate annotators: they prefer the truly better response, with noise, and with the biases planted in them."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.synthetic import phrases
from rlhf.synthetic.gold import gold_reward
from rlhf.synthetic.params import BiasParams


@dataclass(frozen=True, slots=True)
class Annotator:
    """P(a preferred to b) = sigmoid((gold(a) - gold(b)) / temperature + bias(a) - bias(b)): Bradley-Terry in gold.

    Biases are in logits: for every ten words, for a response that flatters, for one that holds the keyword. One object
    is one person; several with other temperatures and biases make a group that disagrees.
    """

    temperature: float
    biases: BiasParams

    def prefers_first(self, prompt: str, first: str, second: str) -> float:
        """Compute the probability that the first response is preferred."""
        gold = gold_reward(prompt, first) - gold_reward(prompt, second)
        return sigmoid(gold / self.temperature + self.bias(first) - self.bias(second))

    def bias(self, response: str) -> float:
        """Compute what this annotator adds to a response beyond its truth, in logits."""
        text = phrases.normal(response)
        found = self.biases.length_per_10_words * len(text.split()) / 10
        if phrases.count(phrases.FLATTERY, text):
            found += self.biases.flattery
        if f" {self.biases.keyword.lower()} " in text:
            found += self.biases.keyword_logit
        return found

    def choose(self, probability: float, rng: random.Random) -> bool:
        """Draw whether the first is chosen, this once."""
        return rng.random() < probability


def noise_ceiling(probabilities: Sequence[float]) -> float:
    """Compute the expected accuracy of a scorer that knows every label's true probability: the mean of max(p, 1 - p).

    No reward model can be expected to do better on labels drawn with these probabilities.

    Raises:
        ValueError: there are no probabilities.
    """
    if not probabilities:
        raise ValueError("a noise ceiling needs at least one label")
    return sum(max(p, 1 - p) for p in probabilities) / len(probabilities)


def sigmoid(x: float) -> float:
    """Compute 1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
