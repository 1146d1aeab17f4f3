"""Compare all policies of a run in one table."""

from stages.cli import Run, stage_command


@stage_command("compare")
def main(run: Run) -> None:
    """Compare PPO with the alternatives that were asked for, on evaluate's prompts with its random numbers.

    Reads metrics/evaluate.json (base, SFT, PPO), artifacts/offline and what evaluate reads. Writes
    artifacts/compare (compare.md; a figure and replies side by side where an alternative ran), metrics/compare.json,
    plots/compare.csv and provenance/compare.json.
    """
    from rlhf.base.params import BaseParams
    from rlhf.compare.compare import compare, read_methods, write
    from rlhf.core.artifacts import atomic_dir
    from rlhf.core.curves import Curve
    from rlhf.evaluate.params import EvaluateParams
    from rlhf.measure.functions import Functions
    from rlhf.measure.params import RefereeParams
    from rlhf.offline.methods import METHODS

    at = run.layout
    params, base = run.section("evaluate", EvaluateParams), run.section("base", BaseParams)
    share = base.pretrain.validation_share if base.source == "pretrain" else None
    own = (run.value("ppo.source"), run.value("ppo.function"), run.value("ppo.function_path"))
    functions = Functions.of(*own, run.value("ppo.function_timeout_s"), run.section("referee", RefereeParams))
    found = compare(at, read_methods(at, METHODS), params, run.runtime, functions, corpus_share=share)
    with atomic_dir(at.compare) as folder:
        write(found, folder)
    Curve(at.plot("compare"), found.rows()).write()
    run.finish(found.metrics, inputs=[at.metrics("evaluate")], outputs=[at.compare])


if __name__ == "__main__":
    main()
