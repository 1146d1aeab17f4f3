"""Make the base model local."""

from stages.cli import Run, stage_command


@stage_command("base")
def main(run: Run) -> None:
    """Make the base model local: pretrained from scratch, copied from a folder, or fetched from a hub at a commit.

    Reads artifacts/prepare/corpus.jsonl and artifacts/prepare/tokenizer (base.source: pretrain), the folder base.path
    (path), or the repository base.repo at the commit base.revision (hub; HF_TOKEN in the environment if it is gated).

    Writes artifacts/base (model, tokenizer, model card), plots/base.csv, metrics/base.json, provenance/base.json.
    """
    from rlhf.base.make import make_base
    from rlhf.base.params import BaseParams

    params = run.section("base", BaseParams)
    at, checkpoints = run.layout, run.checkpoints()
    metrics = make_base(params, at, run.runtime(), checkpoints)
    run.finish(metrics, inputs=[at.corpus, at.tokenizer], outputs=[at.base], cards=[at.base])


if __name__ == "__main__":
    main()
