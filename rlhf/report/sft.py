"""Report pretraining and supervised fine-tuning."""

from rlhf.report.content import Block, Section, Text
from rlhf.report.inputs import Inputs
from rlhf.report.loss_curves import losses
from rlhf.report.wording import percent


def sft(run: Inputs) -> Section:
    """Base model and fine-tuning."""
    n, blocks = run.numbers, list[Block]()
    if "base_perplexity" in n:
        blocks.append(
            Text(
                f"The base model reaches a perplexity of {n.show('base_perplexity')} on text held out from its "
                "pretraining."
            )
        )
    if n.has("sft_perplexity_before", "sft_perplexity_after"):
        before, after = float(n["sft_perplexity_before"]), float(n["sft_perplexity_after"])
        verb = "lowered" if after < before else "raised" if after > before else "left"
        blocks.append(
            Text(
                f"Fine-tuning on {n.show('sft_train_examples')} chosen replies trained "
                f"{n.show('sft_trainable_parameters')} "
                f"parameters of the adapter. It {verb} the perplexity of held-out chosen replies from {before:.2f} to "
                f"{after:.2f}; "
                f"the checkpoint of step {n.show('sft_best_step')}, with the lowest validation loss, was kept."
            )
        )
    if n.has("sft_samples_ended_before", "sft_samples_ended_after"):
        blocks.append(
            Text(
                f"On the same prompts {percent(n['sft_samples_ended_after'])} of the sampled replies come to an end, "
                "against "
                f"{percent(n['sft_samples_ended_before'])} before; their mean length is "
                f"{n.show('sft_sample_tokens_after', 1)} "
                f"tokens, against {n.show('sft_sample_tokens_before', 1)}."
            )
        )
    for name, what in (("base", "Pretraining"), ("sft", "Fine-tuning")):
        blocks += losses(run, name, f"{what}: loss while training and on held-out text", "step", "loss, nats a token")
    return Section("sft", "Supervised fine-tuning", blocks or [Text("There is no fine-tuning to report.")])
