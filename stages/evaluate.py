"""Evaluate base, SFT and PPO side by side."""

from stages.cli import Run, stage_command


@stage_command("evaluate")
def main(run: Run) -> None:
    """Compare base, SFT and PPO on test prompts (evaluate.split) and on out-of-distribution ones.

    Reads artifacts/prepare, base, sft, reward, ppo and rollouts, inputs/benchmarks and inputs/people; writes
    artifacts/evaluate (samples side by side, the sheet for people and its key), metrics/evaluate.json,
    plots/overoptimisation.csv and provenance/evaluate.json.
    """
    from dataclasses import asdict

    from rlhf.base.params import BaseParams
    from rlhf.core.artifacts import atomic_dir
    from rlhf.core.curves import Curve
    from rlhf.evaluate.params import EvaluateParams
    from rlhf.evaluate.run import evaluate, write
    from rlhf.measure.functions import Functions
    from rlhf.measure.params import RefereeParams

    params, base, at = run.section("evaluate", EvaluateParams), run.section("base", BaseParams), run.layout
    share = base.pretrain.validation_share if base.source == "pretrain" else None
    own = (run.value("ppo.source"), run.value("ppo.function"), run.value("ppo.function_path"))
    functions = Functions.of(*own, run.value("ppo.function_timeout_s"), run.section("referee", RefereeParams))
    found = evaluate(at, params, run.runtime(), functions, corpus_share=share)
    with atomic_dir(at.evaluate) as folder:
        write(found, folder, params.split)
    Curve(at.plot("overoptimisation"), [asdict(point) for point in found.overoptimisation]).write()
    read = [at.base, at.sft, at.reward, at.ppo, at.pairs]
    run.finish(found.metrics, inputs=read, outputs=[at.evaluate])


if __name__ == "__main__":
    main()
