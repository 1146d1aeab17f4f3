"""Train an alternative to PPO on the same data and base; none runs by default."""

from rlhf.offline.methods import METHODS, TRAINED
from stages.cli import Run, stage_command


@stage_command("offline", METHODS, checked=False)
def main(run: Run) -> None:
    """Train (or describe) one alternative to PPO, if offline.<variant>.run is true.

    Reads artifacts/base, artifacts/sft, artifacts/reward and artifacts/prepare/pairs. Writes
    artifacts/offline/<variant> (an adapter like artifacts/sft, or policy.json alone), metrics/offline_<variant>.json
    and provenance/offline_<variant>.json. Parameters: offline.shared and offline.<variant>. Killed, it resumes.
    """
    from rlhf.offline.methods import switched_off
    from rlhf.offline.params import SECTIONS, SharedParams

    at = run.layout
    params = run.section(f"offline.{run.variant}", SECTIONS[run.variant])
    if not params.run:
        run.finish(switched_off(run.variant, at), inputs=[], outputs=[])
        return
    from rlhf.offline.run import Process, run_method

    run.check_inputs()
    shared, checkpoints, out = run.section("offline.shared", SharedParams), run.checkpoints(), at.offline(run.variant)
    metrics = run_method(run.variant, params, shared, at, Process(run.runtime(), checkpoints))
    cards = [out] if run.variant in TRAINED else []
    run.finish(metrics, inputs=[at.base, at.sft, at.reward, at.pairs], outputs=[out], cards=cards)


if __name__ == "__main__":
    main()
