"""Answers that were paid for once, by the content of the question."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import read_json, write_json
from rlhf.core.errors import UserError
from rlhf.evaluate.judge.client import Message, Reply
from rlhf.evaluate.judge.params import JudgeParams


@dataclass(frozen=True, slots=True)
class Cache:
    """One small file an answer, named by the SHA-256 of all that the answer depends on: endpoint, model, sampling and
    messages. Another limit, budget or key asks nothing anew; a changed word does."""

    folder: Path

    def name(self, params: JudgeParams, messages: Sequence[Message]) -> Path:
        """Where the answer to this question lies."""
        content = {
            "endpoint": params.endpoint,
            "model": params.model,
            "temperature": params.temperature,
            "max_tokens": params.max_tokens,
            "messages": list(messages),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.json"

    def asking(
        self, params: JudgeParams, ask: Callable[[Sequence[Message]], Reply]
    ) -> Callable[[Sequence[Message]], Reply]:
        """`ask`, but what was answered before is read."""

        def remembered(messages: Sequence[Message]) -> Reply:
            path = self.name(params, messages)
            known = _read(path)
            if known is None:
                known = ask(messages)
                write_json(path, {"text": known.text, "tokens": known.tokens})
            return known

        return remembered

    def settled(self, plan: str) -> bool:
        """Whether every question of a run with this plan was answered once, so that nothing need be asked."""
        return self._plan(plan).exists()

    def settle(self, plan: str, questions: int) -> None:
        """Every question of a run with this plan is answered."""
        write_json(self._plan(plan), {"questions": questions})

    def _plan(self, plan: str) -> Path:
        return self.folder / "settled" / f"{plan}.json"


def _read(path: Path) -> Reply | None:
    """The answer in a file; None where there is none, or none that can be read."""
    if not path.exists():
        return None
    try:
        held = read_json(path)
        return Reply(str(held["text"]), int(held["tokens"]))
    except (UserError, KeyError, TypeError, ValueError):
        return None
