"""Sample the SFT policy on training prompts and score the samples, for RRHF and rejection sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.progress import track
from rlhf.core.runtime import Runtime
from rlhf.models.fast.engine import load_checked
from rlhf.models.policy.sampling import Sample, sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.best_of_n import best
from rlhf.models.reward.scoring import ADAPTER, Scorer, load_reward, prompts_that_fit, read_under, reward_adapters
from rlhf.models.text.prompts import read_prompts
from rlhf.models.text.tokens import encode_prompt
from rlhf.offline.examples import Candidates, drawn
from rlhf.offline.params import SharedParams


@dataclass(frozen=True, slots=True)
class ScoredSamples:
    """n scored samples a prompt, and their cost in tokens."""

    examples: list[Candidates]
    tokens: int  # response tokens that were sampled

    def best(self) -> list[Candidates]:
        """Keep each prompt with its best sample alone, without the score."""
        return [Candidates(e.prompt, (best(e.responses, e.scores),)) for e in self.examples]


class Sampler:
    """The SFT policy and the reward model, on one backbone."""

    def __init__(self, at: Layout, shared: SharedParams, runtime: Runtime) -> None:
        """Raises UserError if an artifact is missing, or the reward model is of another backbone."""
        reward, adapters = load_reward(at.reward, base=at.base, sft=at.sft), reward_adapters(at.reward, sft=at.sft)
        backbone = load_checked(
            at.base, adapters, engine=shared.engine, dtype=runtime.dtype, device=runtime.device, decided=at.conformance
        )
        self._scorer = Scorer(backbone, reward.to(runtime.device), read_under(adapters), {})
        self._at, self._shared, self._seed = at, shared, runtime.seed

    def draw(self, split: str, n: int, limit: int) -> ScoredSamples:
        """Sample and score n responses for each prompt of a split (at most `limit` prompts; 0: all). The first of 4
        samples are those of a run with 2: a draw depends on (seed, split, index of the sample, index of the prompt)."""
        path = self._at.pairs / f"{split}.jsonl"
        prompts = read_prompts(path)
        if not prompts:
            raise UserError(f"{path}: empty; at least one prompt is needed")
        fit = prompts_that_fit(self._scorer.backbone, prompts, self._shared.response_tokens)
        asked = [fit[index] for index in drawn(len(fit), limit, self._seed, split)]
        rounds, scores = [], []
        with track(n, f"offline {split}", unit="sample") as bar:
            for number in range(n):
                samples = self._sample(asked, (split, number))
                rounds.append(samples)
                scores.append(self._scorer.score_samples(samples, batch_tokens=self._shared.batch_tokens))
                bar.update()
        tokenizer = self._scorer.backbone.tokenizer
        examples = [
            Candidates(
                encode_prompt(tokenizer, prompt),
                tuple(list(one[index].response_ids) for one in rounds),
                tuple(one[index] for one in scores),
            )
            for index, prompt in enumerate(asked)
        ]
        return ScoredSamples(examples, sum(example.response_tokens for example in examples))

    def _sample(self, prompts: Sequence[str], stream: tuple[str, int]) -> list[Sample]:
        return sample_texts(
            self._scorer.backbone,
            prompts,
            Sampling(self._shared.response_tokens, self._shared.temperature),
            adapter=ADAPTER,
            stream=(self._seed, "offline", "samples", *stream),
            batch_size=self._shared.sample_batch,
        )
