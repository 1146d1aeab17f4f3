"""Say which changes since a commit are more than another seed's, and what happened to the data."""

import click

from stages.cli import Run, stage_command


@stage_command("diff", costs=False)
@click.argument("commit", default="HEAD")
@click.option("--md", is_flag=True, help="Markdown, for a pull request.")
def main(run: Run, commit: str, md: bool) -> None:
    """Compare the metrics and data here with those of COMMIT (a commit, branch, tag or experiment; HEAD without it).

    Reads metrics/, params.resolved.json and artifacts/prepare/pairs here, the same of the commit from git and DVC's
    cache, and benchmarks/results/seed_spread.json, what another seed gives; writes nothing.
    """
    from rlhf.diff.run import difference
    from rlhf.diff.write import write

    click.echo(write(difference(run.layout.root, commit), markdown=md))


if __name__ == "__main__":
    main()
