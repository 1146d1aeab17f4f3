"""A judge that is known to answer before anything is sampled for it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.judge.cache import Cache
from rlhf.judge.client import BudgetSpent, Endpoint, Message, RateLimited
from rlhf.judge.completion import Reply
from rlhf.judge.pairwise import Duel, Judged, judge, question

_FIRST = question("What is 2 + 2?", "4", "5")  # in the judge's own form: its verdict is not looked at


@dataclass(frozen=True, slots=True)
class Bench:
    """One endpoint, what it answered before, and a name for all that this run's questions follow from."""

    endpoint: Endpoint
    cache: Cache
    plan: str

    def try_out(self) -> None:
        """Ask one small question, so that a judge that cannot answer is found in seconds and not after the sampling.

        It is a real request in the real form (any server answers those; a list of models, not all), it counts
        against the rate and the budget, and is not kept: yesterday's answer says nothing of today's endpoint. It is
        given all attempts, but no more than `timeout_s` together. Nothing is asked where a run with the same plan
        ended with every question answered: such a run needs no network. A rate limit is no failure, since it will
        have passed by then.

        Raises:
            UserError: the endpoint, its key or its model is of no use (`rlhf.judge.client`).
        """
        if self.cache.settled(self.plan):
            return
        with contextlib.suppress(RateLimited, BudgetSpent):
            self.endpoint.ask(_FIRST, within_s=self.endpoint.params.timeout_s)

    def judge(self, duels: Sequence[Duel]) -> Judged:
        """Put each duel to the judge. Raises UserError as `try_out`."""
        asked: list[Path] = []

        def ask(messages: Sequence[Message]) -> Reply:
            asked.append(self.cache.name(self.endpoint.params, messages))
            return answered(messages)

        answered = self.cache.asking(self.endpoint.params, self.endpoint.ask)
        judged = judge(duels, ask)
        self.cache.settle(self.plan, asked)
        return judged
