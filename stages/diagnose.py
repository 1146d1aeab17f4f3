"""Say whether a run is sound."""

from stages.cli import Run, stage_command


@stage_command("diagnose")
def main(run: Run) -> None:
    """Say whether the run is sound, and if not what is wrong, on what evidence, and what to change.

    Reads metrics/{prepare,reward,ppo,evaluate}.json, plots/{ppo,overoptimisation}.csv; writes artifacts/diagnose.md,
    {metrics,provenance}/diagnose.json. Exit status 1 if a verdict of evaluate.fail_on failed; under dvc, `report`'s.
    """
    import click

    from rlhf.core.artifacts import write_text
    from rlhf.diagnose.all_verdicts import all_verdicts
    from rlhf.diagnose.evidence import read_evidence
    from rlhf.diagnose.params import DiagnoseParams
    from rlhf.diagnose.report import by_hand, failures, markdown, metrics, table
    from rlhf.ppo.params import PPOParams
    from rlhf.prepare.params import DataParams
    from rlhf.reward.params import RewardParams
    from rlhf.sft.params import SFTParams

    params, at = run.section("diagnose", DiagnoseParams), run.layout
    now = {"data": run.section("data", DataParams), "sft": run.section("sft", SFTParams)}
    now |= {"reward": run.section("reward", RewardParams), "ppo": run.section("ppo", PPOParams)}
    verdicts = all_verdicts(read_evidence(at), params, {name: section.model_dump() for name, section in now.items()})
    write_text(at.verdicts, markdown(verdicts))
    read = [path for stage in ("prepare", "reward", "ppo", "evaluate") if (path := at.metrics(stage)).is_file()]
    run.finish(metrics(verdicts), inputs=read, outputs=[at.verdicts])
    click.echo(table(verdicts))
    for line in (failed := failures(verdicts, params.fail_on)):
        click.echo(line, err=True)
    if failed and by_hand():
        raise SystemExit(1)


if __name__ == "__main__":
    main()
