"""Run the stage: read pairs, train the adapter, sample before and after, return metrics."""

from collections.abc import Sequence

from rlhf.core.artifacts import atomic_dir, write_jsonl
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.lora import write_adapter
from rlhf.models.policy.sampling import Sample, sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.load import load_tokenizer
from rlhf.sft.examples import Example, read_examples
from rlhf.sft.params import SFTParams
from rlhf.sft.train import finetune, perplexity, with_adapter
from rlhf.training.trainer import ADAPTER

Metrics = dict[str, float | int | None]


def run_sft(params: SFTParams, layout: Layout, runtime: Runtime, checkpoints: Checkpoints) -> Metrics:
    """Write artifacts/sft (adapter and tokenizer), artifacts/sft_samples.jsonl and plots/sft.csv; return the metrics.

    Raises:
        UserError: before training: an empty file, a sequence that exceeds the context, no prompt that
            leaves room for its sample; while training: a loss that became NaN.
    """
    tokenizer = load_tokenizer(layout.base)
    model = with_adapter(layout.base, params.lora, runtime)
    backbone = Backbone(model, tokenizer)
    train, validation, test = (
        read_examples(
            layout.pairs / f"{split}.jsonl",
            tokenizer,
            context=backbone.context,
            limit=limit,
            seed=runtime.seed,
            replies=params.replies,
        )
        for split, limit in (
            ("train", params.max_examples),
            ("validation", params.eval_examples),
            ("test", params.eval_examples),
        )
    )
    asked = _prompts_to_ask(test, params, backbone.context)
    result = finetune(
        model,
        train=train,
        validation=validation,
        pad_id=backbone.pad_id,
        params=params,
        runtime=runtime,
        checkpoints=checkpoints,
        curve=layout.plot("sft"),
    )
    quality = perplexity(model, test, size=params.batch_size, pad_id=backbone.pad_id, runtime=runtime)
    before, after = (_sample(backbone, asked, adapter, params, runtime) for adapter in (None, ADAPTER))
    with atomic_dir(layout.sft) as folder:
        write_adapter(model, ADAPTER, folder)
        tokenizer.save_pretrained(folder)
    write_jsonl(layout.sft_samples, map(_side_by_side, asked, before, after))
    return {
        "sft_train_examples": len(train),
        "sft_trainable_parameters": sum(p.numel() for p in backbone.parameters_of(ADAPTER).values()),
        "sft_best_step": result.best_step,
        "sft_train_loss": result.train_loss,
        "sft_validation_loss": result.validation_loss,
        "sft_perplexity_before": quality.before,
        "sft_perplexity_after": quality.after,
        "sft_sample_tokens_before": _mean([len(sample.response_ids) for sample in before]),
        "sft_sample_tokens_after": _mean([len(sample.response_ids) for sample in after]),
        "sft_samples_ended_before": _mean([sample.ended for sample in before]),
        "sft_samples_ended_after": _mean([sample.ended for sample in after]),
    }


def _prompts_to_ask(examples: Sequence[Example], params: SFTParams, context: int) -> list[Example]:
    """Choose the first `samples` examples with distinct prompts that leave room for a sampled reply."""
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.text, example)
    shortest = min(len(example.prompt) for example in first.values())
    if params.samples and shortest + params.sample_tokens > context:
        raise UserError(
            f"sft.sample_tokens: found {params.sample_tokens}; the shortest prompt has {shortest} tokens and the "
            f"model's context is {context}, so at most {context - shortest} are allowed"
        )
    return [example for example in first.values() if len(example.prompt) + params.sample_tokens <= context][
        : params.samples
    ]


def _sample(
    backbone: Backbone, asked: Sequence[Example], adapter: str | None, params: SFTParams, runtime: Runtime
) -> list[Sample]:
    return sample_texts(
        backbone,
        [example.text for example in asked],
        Sampling(params.sample_tokens, params.sample_temperature),
        adapter=adapter,
        stream=(runtime.seed, "sft", "samples"),
        batch_size=params.batch_size,
    )


def _side_by_side(example: Example, before: Sample, after: Sample) -> dict[str, object]:
    return {"id": example.id, "prompt": example.shown, "before": before.response, "after": after.response}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
