"""Export a run's models in the forms that other programs load."""

from pathlib import Path

import click

from stages.cli import Run, stage_command


@stage_command("export", costs=False)
@click.option("--model", help="base, sft, ppo, offline/<method> or reward; without it all of the run's models.")
@click.option(
    "--kind",
    type=click.Choice(["adapter", "merged", "reward", "reward-parts"]),
    help="adapter: peft files as they are. merged: one model. reward: a sequence classifier, where the pooling allows "
    "it. reward-parts: backbone and head, with the lines that score. Without it every form that a model has.",
)
@click.option("--to", type=click.Path(path_type=Path), help="Folder; exports/<model>/<kind> without it.")
def main(run: Run, model: str | None, kind: str | None, to: Path | None) -> None:
    """Write models that plain transformers and peft load, each with its tokenizer and a model card.

    Reads artifacts/base, sft, ppo, reward and offline; writes exports/, which git ignores. Each export is loaded back
    and asked before it is kept.
    """
    from rlhf.export.run import fulfil, orders, skipped

    ordered, at = orders(run.layout, model, kind, to), run.layout
    run.check_inputs(at.base, at.sft, *(at.artifacts / order.model for order in ordered))
    for order in ordered:
        reason = skipped(run.layout, order) if kind is None else None
        if reason is None:
            fulfil(run.layout, order)
        click.echo(
            f"{order.to}" if reason is None else f"{order.model} as {order.kind}: left out: {reason}", err=bool(reason)
        )


if __name__ == "__main__":
    main()
