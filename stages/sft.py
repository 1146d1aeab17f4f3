"""Fine-tune the base model on the preferred responses."""

from stages.cli import Run, stage_command


@stage_command("sft")
def main(run: Run) -> None:
    """Fine-tune a LoRA adapter on the chosen responses, or both (sft.replies); prompts are only read, the base frozen.

    Reads artifacts/base and artifacts/prepare/pairs (train, validation, test).

    Writes artifacts/sft (adapter, tokenizer, model card), artifacts/sft_samples.jsonl (replies before and after),
    plots/sft.csv, metrics/sft.json, provenance/sft.json.
    """
    from rlhf.sft.params import SFTParams
    from rlhf.sft.run import run_sft

    params = run.section("sft", SFTParams)
    at, checkpoints = run.layout, run.checkpoints()
    metrics = run_sft(params, at, run.runtime(), checkpoints)
    run.finish(metrics, inputs=[at.base, at.pairs], outputs=[at.sft], cards=[at.sft])


if __name__ == "__main__":
    main()
