"""Whoever writes under a constitution: a policy of the run, or a language model behind an endpoint."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlhf.core.artifacts import sha256_tree
from rlhf.core.conversation import Turn
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.judge.cache import Cache
from rlhf.judge.client import Endpoint, Malformed
from rlhf.label.turns import turns_of
from rlhf.labels.record import Question


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt as the policy reads it, and its turns where a chat template wrote it."""

    prompt: str
    conversation: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Who said what."""
        return self.conversation or tuple(turns_of(Question(prompt=self.prompt, a="", b="")))


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt, and what was said after it: the reply, a request, and so on; a reply is due."""

    task: Task
    after: tuple[Turn, ...] = ()


@runtime_checkable  # pytest checks annotations
class Writer(Protocol):
    """Writes replies; the same ones to the same items at the same place."""

    @property
    def name(self) -> str:
        """Who writes, for `policy_a` of labels."""

    @property
    def block(self) -> int:
        """How many prompts are written together."""

    @property
    def digest(self) -> str:
        """Name all that the replies depend on, but for the items."""

    def write(self, items: Sequence[Item], *place: str | int) -> list[str | None]:
        """Write a reply to each item; None where there is none, as where it does not fit the context."""


@dataclass(slots=True)
class EndpointWriter:
    """A language model behind an endpoint, one request an item; what was answered before is free."""

    endpoint: Endpoint
    cache: Cache
    block: int = 1

    @property
    def name(self) -> str:
        """The model's name."""
        return self.endpoint.params.model

    @property
    def digest(self) -> str:
        """Of endpoint, model and sampling."""
        kept = ("endpoint", "model", "temperature", "max_tokens")
        return _digest([str(getattr(self.endpoint.params, name)) for name in kept])

    def write(self, items: Sequence[Item], *place: str | int) -> list[str | None]:
        """As `Writer`. Raises BudgetSpent and UserError as `Endpoint.ask`."""
        ask, found = self.cache.asking(self.endpoint.params, self.endpoint.ask), list[str | None]()
        for item in items:
            turns = (*item.task.turns, *item.after)
            try:
                found.append(ask([{"role": turn.role, "content": turn.content} for turn in turns]).text)
            except Malformed:
                found.append(None)
        return found


@dataclass(slots=True)
class PolicyWriter:
    """A policy of the run, by the project's own sampler: the same seed and prompts, the same replies."""

    name: str
    backbone: Any  # rlhf.models.policy.backbone.Backbone
    adapter: str | None
    template: Any  # str, or a ChatTemplate: rlhf.models.text.spoken.turn_template
    tokens: int  # longest reply
    temperature: float
    seed: int
    weights: str
    block: int = field(default=16)

    @classmethod
    def load(
        cls,
        at: Layout,
        name: str,
        known: Mapping[str, Any],
        runtime: Runtime,
        *,
        tokens: int,
        temperature: float,
        seed: int,
    ) -> "PolicyWriter":
        """Load a policy by name; `known`: the resolved parameters. Raises UserError if it is not there."""
        from rlhf.models.policy.available import BASE, find_policy, policies
        from rlhf.models.policy.backbone import Backbone
        from rlhf.models.text.spoken import turn_template

        there = policies(at)
        find_policy(there, BASE)
        folder = find_policy(there, name)
        adapters: dict[str, Path] = {} if folder is None else {"writer": folder}
        backbone = Backbone.load(at.base, adapters, dtype=runtime.dtype, device=runtime.device)
        form = turn_template(known["data"], at.base)
        weights = sha256_tree(folder) if folder else ""
        return cls(name, backbone, "writer" if folder else None, form, tokens, temperature, seed, weights)

    @property
    def digest(self) -> str:
        """Of the adapter's weights and of sampling."""
        return _digest([self.name, self.weights, self.tokens, self.temperature, self.seed])

    def write(self, items: Sequence[Item], *place: str | int) -> list[str | None]:
        """As `Writer`; the random numbers belong to `place` and an item's position."""
        from rlhf.models.policy.sampling import sample_texts
        from rlhf.models.policy.settings import Sampling
        from rlhf.models.text.tokens import encode_prompt

        texts = [self._written(item) for item in items]
        room = self.backbone.context - self.tokens
        fits = [i for i, text in enumerate(texts) if len(encode_prompt(self.backbone.tokenizer, text)) <= room]
        name: tuple[str | int, ...] = ("label", "constitution", *place)
        samples = sample_texts(
            self.backbone, [texts[i] for i in fits], Sampling(self.tokens, self.temperature), adapter=self.adapter,
            stream=(self.seed, *name), batch_size=self.block,
        )  # fmt: skip
        found: list[str | None] = [None] * len(items)
        for i, sample in zip(fits, samples, strict=True):
            said = sample.response
            found[i] = said if isinstance(self.template, str) else self.template.content(said)
        return found

    def _written(self, item: Item) -> str:
        from rlhf.models.text.spoken import write_turns

        if not item.after:
            return item.task.prompt
        tokenizer = self.backbone.tokenizer
        if not isinstance(self.template, str):
            return write_turns([*item.task.turns, *item.after], self.template, tokenizer)
        return item.task.prompt + write_turns(item.after, self.template, tokenizer, goes_on=True)


def _digest(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
