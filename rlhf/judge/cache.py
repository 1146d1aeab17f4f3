"""Answers that were paid for once, by the content of the question."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import read_json, write_json
from rlhf.core.errors import UserError
from rlhf.judge.client import Message
from rlhf.judge.completion import Place, Reply
from rlhf.judge.http import MOST_BYTES
from rlhf.judge.params import JudgeParams

LARGEST = 8 * MOST_BYTES  # bytes of a file: every letter of an answer may be an escape


@dataclass(frozen=True, slots=True)
class Cache:
    """One small file an answer, named by the SHA-256 of all that the answer depends on: endpoint, model, sampling and
    messages. Another limit, budget or key asks nothing anew; a changed word does."""

    folder: Path

    def name(self, params: JudgeParams, messages: Sequence[Message], logprobs: int = 0) -> Path:
        """Where the answer to this question lies. `logprobs`: as of `Endpoint`."""
        content: dict[str, object] = {
            "endpoint": params.endpoint,
            "model": params.model,
            "temperature": params.temperature,
            "max_tokens": params.max_tokens,
            "messages": list(messages),
        }
        if logprobs:
            content["logprobs"] = logprobs
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self._place(digest)

    def _place(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.json"

    def asking(
        self, params: JudgeParams, ask: Callable[[Sequence[Message]], Reply], logprobs: int = 0
    ) -> Callable[[Sequence[Message]], Reply]:
        """`ask`, but what was answered before is read."""

        def remembered(messages: Sequence[Message]) -> Reply:
            path = self.name(params, messages, logprobs)
            known = read_reply(path)
            if known is None:
                known = ask(messages)
                with contextlib.suppress(FileNotFoundError):  # another run wrote the same answer at the same moment
                    held = {"question": path.stem, "text": known.text, "tokens": known.tokens}
                    write_json(path, held | ({"places": known.places} if known.places else {}))
            return known

        return remembered

    def settled(self, plan: str) -> bool:
        """Say whether every question of a run with this plan was answered once, and the answers are all still there, so
        that nothing need be asked."""
        held = _object(self._plan(plan))
        names = held.get("questions") if held else None
        if not isinstance(names, list):
            return False
        return all(isinstance(name, str) and re.fullmatch(r"[0-9a-f]{64}", name) for name in names) and all(
            read_reply(self._place(name)) for name in names
        )

    def settle(self, plan: str, questions: Sequence[Path]) -> None:
        """Note that a run with this plan asks these questions (`name`); where one has no answer nothing is noted."""
        if all(read_reply(path) for path in questions):
            write_json(self._plan(plan), {"questions": [path.stem for path in questions]})

    def _plan(self, plan: str) -> Path:
        return self.folder / "settled" / f"{plan}.json"


def read_reply(path: Path) -> Reply | None:
    """Read the answer in a file; None where there is none, or a damaged one, or one to another question."""
    held = _object(path)
    if held is None or held.get("question", path.stem) != path.stem:  # older files do not say
        return None
    text, tokens = held.get("text"), held.get("tokens")
    if not isinstance(text, str) or isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        return None
    return Reply(text, tokens, _places(held.get("places")))


def _places(held: object) -> tuple[Place, ...]:
    """Read what `write_json` made of alternatives; none of anything else."""
    try:
        return tuple((str(token), tuple((str(t), float(p)) for t, p in top)) for token, top in held)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return ()


def _object(path: Path) -> dict[str, object] | None:
    """Read a JSON object of a size that an answer can have; None of anything else that may lie there."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:  # a pipe would never end
            return None
        held = read_json(path)
    except (UserError, OSError):
        return None
    return held if isinstance(held, dict) else None
