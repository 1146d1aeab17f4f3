"""Know where everything lies on disk: the only module that holds the names in `dvc.yaml`."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of artifacts, metrics and curves under a project root (relative by default: nothing written holds an
    absolute path, so that two clones write the same bytes)."""

    root: Path = Path()

    @property
    def resolved(self) -> Path:
        """Profile and params.yaml merged and checked, written by `resolve`."""
        return self.root / "params.resolved.json"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def pairs(self) -> Path:
        """train.jsonl, validation.jsonl, test.jsonl, ood.jsonl, set_aside.jsonl, task.json; probes.jsonl where
        the preferences came with one."""
        return self.artifacts / "prepare" / "pairs"

    @property
    def corpus(self) -> Path:
        return self.artifacts / "prepare" / "corpus.jsonl"

    @property
    def tokenizer(self) -> Path:
        return self.artifacts / "prepare" / "tokenizer"

    @property
    def base(self) -> Path:
        return self.artifacts / "base"

    @property
    def conformance(self) -> Path:
        """Which engines compute the base model's own numbers."""
        return self.artifacts / "conformance" / "engines.json"

    @property
    def sft(self) -> Path:
        return self.artifacts / "sft"

    @property
    def sft_samples(self) -> Path:
        return self.artifacts / "sft_samples.jsonl"

    @property
    def reward(self) -> Path:
        return self.artifacts / "reward"

    @property
    def referee(self) -> Path:
        """The second reward model, on prompts that the first never sees; a note where there is none."""
        return self.artifacts / "referee"

    @property
    def reward_learned(self) -> Path:
        """What the reward model has learnt: features, words, examples."""
        return self.artifacts / "reward_learned.json"

    @property
    def ppo(self) -> Path:
        return self.artifacts / "ppo"

    @property
    def rollouts(self) -> Path:
        """Episodes logged by PPO, one JSON object a line."""
        return self.artifacts / "rollouts" / "ppo.jsonl"

    @property
    def acquire(self) -> Path:
        """The pairs to ask annotators about next, one JSON object a line; none where acquire is off."""
        return self.artifacts / "acquire" / "pairs.jsonl"

    def offline(self, method: str) -> Path:
        """The output of PPO's alternative `method`: an adapter as in artifacts/sft, or only policy.json."""
        return self.artifacts / "offline" / method

    @property
    def compare(self) -> Path:
        return self.artifacts / "compare"

    @property
    def evaluate(self) -> Path:
        return self.artifacts / "evaluate"

    @property
    def verdicts(self) -> Path:
        """Verdicts with evidence, thresholds and remedies, for readers."""
        return self.artifacts / "diagnose.md"

    @property
    def judge_cache(self) -> Path:
        """A language model's judgements, kept between runs. RLHF_JUDGE_CACHE names another folder, as for experiments
        that run in folders of their own."""
        return Path(os.environ.get("RLHF_JUDGE_CACHE") or self.root / ".judge_cache")

    def metrics(self, stage: str) -> Path:
        return self.root / "metrics" / f"{stage}.json"

    def plot(self, name: str) -> Path:
        return self.root / "plots" / f"{name}.csv"

    def provenance(self, stage: str) -> Path:
        return self.root / "provenance" / f"{stage}.json"

    @property
    def reports(self) -> Path:
        """index.html, report.md and cards/, in git."""
        return self.root / "reports"

    @property
    def costs(self) -> Path:
        """The cost of each stage's last finished run on this machine; git ignores it."""
        return self.root / ".costs"

    @property
    def tracebacks(self) -> Path:
        """Where a bug of the project in a stage leaves its traceback; git ignores it."""
        return self.root / ".tracebacks"

    @property
    def live(self) -> Path:
        """Curves for dashboards, which git and DVC ignore."""
        return self.root / ".live"

    @property
    def checkpoints(self) -> Path:
        return self.root / ".checkpoints"
