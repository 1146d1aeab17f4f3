"""Compare a sweep's experiments: one table, one figure and one best setting."""

from pathlib import Path

import click

from stages.cli import Run, stage_command


@stage_command("sweep", costs=False)
@click.option("--kl-budget", type=click.FloatRange(min=0), help="Nats a response that the best setting may cost.")
@click.option("--commits", type=click.IntRange(min=1), default=1, show_default=True, help="Last commits to look at.")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="A file with the output of dvc exp show --json."
)
def main(run: Run, kl_budget: float | None, commits: int, source: Path | None) -> None:
    """Compare the experiments of `dvc exp run --queue`: mean and spread over seeds, frontier, best under a KL budget.

    Reads `dvc exp show --json`; writes reports/sweep.md and reports/sweep.png. Experiments that failed or still run are
    listed, and counted in nothing.
    """
    from rlhf.sweep.read import ask_dvc, read_experiments, read_file
    from rlhf.sweep.write import write_sweep

    found = read_experiments(ask_dvc(commits), "dvc exp show") if source is None else read_file(source)
    write_sweep(found, run.layout.root / "reports", kl_budget)
    click.echo(f"{run.layout.root / 'reports' / 'sweep.md'}")


if __name__ == "__main__":
    main()
