"""Score responses by functions: PPO's own source where that is one, and a second that PPO never sees."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlhf.core.errors import UserError
from rlhf.measure.functions import FunctionSpec
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.function_source import FunctionSource

BATCH = 32  # responses that a function is asked about at once, within its timeout_s


def start(spec: FunctionSpec) -> "FunctionScorer":
    """Start the function's process.

    Raises:
        UserError: no such folder, module or function.
    """
    if not spec.function or not spec.folder.is_dir():
        raise UserError(
            f"{spec.key}: found {spec.function!r} in {str(spec.folder)!r}; a module:function in an existing folder, "
            f"{spec.key}_path, is needed"
        )
    return FunctionScorer(spec.function, FunctionSource(spec.function, timeout_s=spec.timeout_s, folder=spec.folder))


@dataclass(frozen=True, slots=True)
class FunctionScorer:
    """A function as a scorer of samples, in the function's own units.

    Each distinct pair of prompt and response is asked once, so that equal texts tie whatever the function does.
    """

    name: str
    source: FunctionSource
    known: dict[tuple[str, str], float] = field(default_factory=dict)

    def score_samples(self, samples: Sequence[Sample], *, batch_tokens: int = 0) -> list[float]:
        """Score sampled responses; `batch_tokens` is for scorers that are models. Raises as `score_texts`."""
        return self.score_texts([sample.prompt for sample in samples], [sample.response for sample in samples])

    def score_texts(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Score texts, BATCH at a time.

        Raises:
            UserError: the function raised, took too long, or returned something else than a finite number each.
        """
        pairs = list(zip(prompts, responses, strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            scores = self.source.score_texts([prompt for prompt, _ in part], [response for _, response in part])
            self.known.update(zip(part, scores, strict=True))
        return [self.known[pair] for pair in pairs]

    def close(self) -> None:
        """End the function's process."""
        self.source.close()
