"""Prove that a committed run can be made again, or that the files here are those that were made."""

from pathlib import Path

import click

from stages.cli import Run, stage_command


@stage_command("verify", costs=False)
@click.option("--commit", default="HEAD", show_default=True, help="A commit, branch, tag or experiment.")
@click.option("--profile", help="Make it with this profile: short for -S profile=NAME.")
@click.option("-S", "settings", multiple=True, metavar="KEY=VALUE", help="Make it with another value of params.yaml.")
@click.option("--until", metavar="STAGE", help="Only this stage and those before it, as ppo or offline@dpo.")
@click.option("--run", "made", type=click.Path(path_type=Path), help="Compare this folder's run; make none.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Where the scratch folder is made.")
@click.option("--keep", is_flag=True, help="Keep the scratch folder in any case.")
@click.option("--md", is_flag=True, help="Markdown, for a pull request.")
@click.option("--at-rest", is_flag=True, help="Make nothing: check the files here, and DVC's cache, in seconds.")
@click.option("--whole-cache", is_flag=True, help="With --at-rest: every object in the cache, of other runs too.")
def main(  # noqa: PLR0917 - click passes them by name
    run: Run, commit: str, profile: str | None, settings: tuple[str, ...], until: str | None, made: Path | None,
    scratch: Path | None, keep: bool, md: bool, at_rest: bool, whole_cache: bool,
) -> None:  # fmt: skip
    """Make the committed run again in a scratch folder, from nothing, and compare every output with dvc.lock.

    Reads the commit, and writes nothing here. Exit status 0: same bytes. 3: not the same bytes, but every headline
    number is within what another seed gives. 1: different, with the first stage that is; or not verified, with the
    reason. 130: stopped.
    """
    from rlhf.core.errors import UserError

    if at_rest:
        from rlhf.verify.at_rest import check_at_rest, report

        found = check_at_rest(run.layout.root, whole_cache=whole_cache)
        click.echo(report(found))
        raise SystemExit(1 if found.problems else 0)
    if whole_cache:
        raise UserError("--whole-cache goes with --at-rest: a run that is made from nothing has no cache")
    from rlhf.verify.run import Asked, verify
    from rlhf.verify.write import write

    settings = (*settings, *([f"profile={profile}"] if profile else []))
    try:
        outcome = verify(Asked(run.layout.root, commit, settings, until, made, scratch, keep))
    except KeyboardInterrupt:
        click.echo(f"verify: stopped; {'the scratch folder stays' if keep else 'nothing is kept'}", err=True)
        raise SystemExit(130) from None
    click.echo(write(outcome, markdown=md))
    raise SystemExit(int(outcome.verdict.status))


if __name__ == "__main__":
    main()
