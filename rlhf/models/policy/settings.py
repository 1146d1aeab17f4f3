"""Say how responses are sampled."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """What, beside prompt and policy, a sampled response depends on; the random numbers come apart from it."""

    max_new_tokens: int  # the EOS included
    temperature: float  # above 0; of logprobs and entropies as well, greedy decoding's included
