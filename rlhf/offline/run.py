"""Run one alternative to PPO: read its data, train, write the policy, return metrics."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from rlhf.core.artifacts import atomic_dir, write_json
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.models.fast.allocator import keep_memory
from rlhf.models.policy.lora import write_adapter
from rlhf.models.text.context import context_of
from rlhf.models.text.load import load_tokenizer
from rlhf.offline.examples import Candidates, collator, read_pairs
from rlhf.offline.learn import CURVE, Job, sft_policy
from rlhf.offline.methods import POLICY
from rlhf.offline.params import (
    BestOfNParams,
    PreferenceParams,
    RejectionParams,
    RRHFParams,
    SharedParams,
    Switched,
    TrainedParams,
)
from rlhf.offline.preference import Loss, train_preferences
from rlhf.offline.rrhf import RRHFTrainer, validation_rrhf
from rlhf.offline.samples import Sampler, ScoredSamples
from rlhf.training.batches import in_batches
from rlhf.training.token_loss import token_loss
from rlhf.training.trainer import ADAPTER, Fit

Metrics = dict[str, object]
LOSSES: Mapping[str, Loss] = {"dpo": "sigmoid", "ipo": "ipo"}


@dataclass(frozen=True, slots=True)
class Process:
    """The process that a method runs in: device, seed, checkpoints."""

    runtime: Runtime
    checkpoints: Checkpoints


@dataclass(frozen=True, slots=True)
class Policy:
    """The trainable policy: the model's adapter ADAPTER."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def pad_id(self) -> int:
        """Return the padding's token id."""
        return int(self.tokenizer.pad_token_id)


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    """A policy with the result of its training and what that took."""

    policy: Policy
    fit: Fit
    train: Sequence[Candidates]
    sampled: int  # response tokens sampled for training
    more: Metrics


def run_method(method: str, params: Switched, shared: SharedParams, at: Layout, process: Process) -> Metrics:
    """Train (or describe) one method and write artifacts/offline/<method>; return the metrics.

    Raises:
        UserError: an input is missing or malformed, before training; a loss that became NaN.
        Stopped: a signal came; the next run resumes.
    """
    policy: Metrics = {"method": method, "run": True, "kind": "adapter"}
    metrics: Metrics = {"run": True}
    keep_memory()
    with atomic_dir(at.offline(method)) as folder:
        if isinstance(params, BestOfNParams):
            policy |= {"kind": "best_of_n", "n": params.n}
        elif isinstance(params, TrainedParams):
            job = Job(method, params, shared, process.runtime, process.checkpoints)
            trained = _train(job, at)
            write_adapter(trained.policy.model, ADAPTER, folder)
            trained.policy.tokenizer.save_pretrained(folder)
            shutil.copyfile(job.curve, folder / CURVE)
            metrics |= _metrics(job, trained)
        write_json(folder / POLICY, policy)
    return {f"offline_{method}_{name}": value for name, value in metrics.items()}


def _train(job: Job, at: Layout) -> TrainedPolicy:
    policy = Policy(sft_policy(at, job.runtime), load_tokenizer(at.base))
    if isinstance(job.params, PreferenceParams):
        return _by_preferences(job, job.params, policy, at)
    if isinstance(job.params, RejectionParams):
        sampler = Sampler(at, job.shared, job.runtime)
        train = sampler.draw("train", job.params.n, job.shared.max_examples)
        validation = sampler.draw("validation", job.params.n, job.shared.eval_examples)
        if isinstance(job.params, RRHFParams):
            return _by_ranking(job, job.params, policy, train, validation)
        return _by_rejection(job, policy, train, validation)
    raise TypeError(f"no training for {type(job.params).__name__}")


def _by_preferences(job: Job, params: PreferenceParams, policy: Policy, at: Layout) -> TrainedPolicy:
    context, seed = context_of(policy.model.config.to_dict()), job.runtime.seed
    limits = {"train": job.shared.max_examples, "validation": job.shared.eval_examples}
    train, validation = (
        read_pairs(at.pairs / f"{split}.jsonl", policy.tokenizer, context=context, limit=limit, seed=seed)
        for split, limit in limits.items()
    )
    result, accuracy = train_preferences(
        job, policy.model, policy.tokenizer, train, validation, beta=params.beta, loss=LOSSES[job.method]
    )
    return TrainedPolicy(policy, result, train, 0, {"validation_accuracy": accuracy})


def _by_ranking(
    job: Job, params: RRHFParams, policy: Policy, train: ScoredSamples, validation: ScoredSamples
) -> TrainedPolicy:
    device, collate = job.runtime.device, collator(policy.pad_id)
    batches = in_batches(validation.examples, job.shared.batch_size, collate)
    result = job.fit(
        policy.model,
        train.examples,
        collate=collate,
        validate=lambda trained: validation_rrhf(trained, batches, device, sft_coef=params.sft_coef),
        trainer=partial(RRHFTrainer, sft_coef=params.sft_coef),
    )
    return TrainedPolicy(policy, result, train.examples, train.tokens, _rewards(train))


def _by_rejection(job: Job, policy: Policy, train: ScoredSamples, validation: ScoredSamples) -> TrainedPolicy:
    device, collate = job.runtime.device, collator(policy.pad_id)
    batches = in_batches(validation.best(), job.shared.batch_size, collate)
    result = job.fit(
        policy.model,
        train.best(),
        collate=collate,
        validate=lambda trained: token_loss(trained, batches, device),
    )
    return TrainedPolicy(policy, result, train.best(), train.tokens, _rewards(train))


def _rewards(train: ScoredSamples) -> Metrics:
    """Average the rewards of all samples, and those of each prompt's best: what there was to learn."""
    scores = [score for example in train.examples for score in example.scores]
    tops = [max(example.scores) for example in train.examples]
    return {"reward_sampled": sum(scores) / len(scores), "reward_best": sum(tops) / len(tops)}


def _metrics(job: Job, trained: TrainedPolicy) -> Metrics:
    return {
        "train_examples": len(trained.train),
        "best_step": trained.fit.best_step,
        "train_loss": trained.fit.train_loss,
        "validation_loss": trained.fit.validation_loss,
        "tokens_sampled": trained.sampled,
        "tokens_trained": job.tokens_trained(trained.train),
        **trained.more,
    }
