"""Verdicts: is this run sound?"""

import os
import sys

from stages.cli import Run, stage_command


@stage_command("diagnose")
def main(run: Run) -> None:
    """Say whether the run is sound, and if not what is wrong, on what evidence, and what to change.

    Reads metrics/{prepare,reward,ppo,evaluate}.json, plots/{ppo,overoptimisation}.csv; writes metrics/diagnose.json
    and artifacts/diagnose.md. Exit status 1 if a verdict of evaluate.fail_on failed; under dvc, `report` does that.
    """
    from rlhf.core.artifacts import write_metrics, write_text
    from rlhf.diagnose.evidence import read_evidence
    from rlhf.diagnose.judge import judge
    from rlhf.diagnose.params import DiagnoseParams
    from rlhf.diagnose.report import failures, markdown, metrics, table
    from rlhf.ppo.params import PPOParams
    from rlhf.prepare.params import DataParams
    from rlhf.reward.params import RewardParams
    from rlhf.sft.params import SFTParams

    params, at = run.section("diagnose", DiagnoseParams), run.layout
    now = {"data": run.section("data", DataParams), "sft": run.section("sft", SFTParams)}
    now |= {"reward": run.section("reward", RewardParams), "ppo": run.section("ppo", PPOParams)}
    verdicts = judge(read_evidence(at), params, {name: section.model_dump() for name, section in now.items()})
    write_text(at.verdicts, markdown(verdicts))
    write_metrics(at.metrics("diagnose"), metrics(verdicts))
    print(table(verdicts))
    for line in (failed := failures(verdicts, params.fail_on)):
        print(line, file=sys.stderr)
    if failed and "DVC_STAGE" not in os.environ:  # DVC would run nothing after a stage that failed: no report
        sys.exit(1)


if __name__ == "__main__":
    main()
