"""Supervised fine-tuning."""

from stages.cli import Run, stage_command


@stage_command("sft")
def main(run: Run) -> None:
    """Fine-tune a LoRA adapter on the chosen responses; prompts are read, not learnt, and the base is frozen.

    Reads artifacts/base and artifacts/prepare/pairs (train, validation, test).

    Writes artifacts/sft (adapter, tokenizer, model card), artifacts/sft_samples.jsonl (replies before and after),
    plots/sft.csv, metrics/sft.json, provenance/sft.json.
    """
    from rlhf.core.artifacts import write_metrics
    from rlhf.sft.params import SFTParams
    from rlhf.sft.run import run_sft

    params = run.section("sft", SFTParams)
    checkpoints = run.checkpoints()
    metrics = run_sft(params, run.layout, run.runtime(), checkpoints)
    write_metrics(run.layout.metrics("sft"), metrics)
    run.card(run.layout.sft, metrics)
    run.provenance(inputs=[run.layout.base, run.layout.pairs], outputs=[run.layout.sft])
    checkpoints.clear()


if __name__ == "__main__":
    main()
