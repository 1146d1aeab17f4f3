"""Check that the engines compute the base model's own probabilities."""

from stages.cli import Run, stage_command


@stage_command("conformance")
def main(run: Run) -> None:
    """Hold the engines against plain transformers and peft, one unpadded sequence at a time, before anything rests on
    them: scoring, sampling, and training an adapter.

    Reads artifacts/base. Writes artifacts/conformance/engines.json (the engines that agree, for the stages that use
    one) and metrics/conformance.json (how far each was off). A model that the plain engine gets wrong is refused.
    """
    from rlhf.conformance.run import run_conformance

    longest = run.value("data.max_tokens") + run.value("ppo.response_tokens")
    targets = run.value("sft.lora.targets")
    at = run.layout
    metrics = run_conformance(at, targets=targets, longest=longest, runtime=run.runtime())
    run.finish(metrics, inputs=[at.base], outputs=[at.conformance])


if __name__ == "__main__":
    main()
