"""The log of sampled episodes, from which `evaluate` computes what PPO does not know (gold reward over KL)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl, write_jsonl
from rlhf.ppo.actors import Actors
from rlhf.ppo.rollout import episode_kl, response_texts
from rlhf.ppo.types import Rollout


class EpisodeLog:
    """One file an iteration, beside the checkpoints: a resumed run rewrites the same files with the same bytes."""

    def __init__(self, folder: Path, count: int) -> None:
        """Keep the first `count` episodes of each batch, which is in random order."""
        self._folder, self._count = folder / "episodes", count

    def write(self, actors: Actors, rollout: Rollout, iteration: int) -> None:
        """Log episodes of the policy that has seen `iteration` updates. NaN and infinities become null."""
        answers = rollout.answers
        texts = response_texts(actors, answers)
        columns = (answers.ended.tolist(), rollout.scores.tolist(), episode_kl(rollout).tolist())
        rows = [
            {
                "iteration": iteration,
                "prompt": prompt.text,
                "response": text,
                "ended": ended,
                "score": _number(score),
                "kl": _number(kl),
            }
            for prompt, text, ended, score, kl in zip(answers.prompts, texts, *columns, strict=True)
        ]
        write_jsonl(self._folder / f"{iteration:08d}.jsonl", rows[: self._count])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield all logged episodes, in order of iteration."""
        for path in sorted(self._folder.glob("*.jsonl")):
            for _, row in iter_jsonl(path):
                yield row


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
