"""Report pretraining and supervised fine-tuning."""

from collections.abc import Iterator

from rlhf.report.content import Block, Section, Text
from rlhf.report.inputs import Inputs
from rlhf.report.loss_curves import losses
from rlhf.report.wording import Numbers, percent


def sft(run: Inputs) -> Section:
    """Report losses, perplexity and the length of replies."""
    blocks: list[Block] = [Text(text) for text in _texts(run.numbers)]
    for name, what in (("base", "Pretraining"), ("sft", "Fine-tuning")):
        blocks += losses(run, name, f"{what}: training and validation loss", "step", "loss, nats a token")
    return Section("sft", "Supervised fine-tuning", blocks or [Text("There is no fine-tuning to report.")])


def _texts(n: Numbers) -> Iterator[str]:
    if "base_perplexity" in n:
        yield (
            f"The base model reaches a perplexity of {n.show('base_perplexity')} on text held out from its pretraining."
        )
    if n.has("sft_perplexity_before", "sft_perplexity_after"):
        before, after = float(n["sft_perplexity_before"]), float(n["sft_perplexity_after"])
        verb = "lowered" if after < before else "raised" if after > before else "left"
        yield (
            f"Fine-tuning on {n.show('sft_train_examples')} replies trained "
            f"{n.show('sft_trainable_parameters')} parameters of the adapter. It {verb} the perplexity of held-out "
            f"replies from {before:.2f} to {after:.2f}; the checkpoint of step {n.show('sft_best_step')}, with "
            "the lowest validation loss, was kept."
        )
    if n.has("sft_samples_ended_before", "sft_samples_ended_after"):
        yield (
            f"On the same prompts {percent(n['sft_samples_ended_after'])} of the sampled replies come to an end, "
            f"against {percent(n['sft_samples_ended_before'])} before; their mean length is "
            f"{n.show('sft_sample_tokens_after', 1)} tokens, against {n.show('sft_sample_tokens_before', 1)}."
        )
