"""Choose which pairs of replies annotators should be asked about next; by default none."""

from stages.cli import Run, stage_command


@stage_command("acquire", checked=False)
def main(run: Run) -> None:
    """Sample replies to training prompts and choose the pairs to ask about, if acquire.run is true.

    Reads artifacts/base, artifacts/conformance, artifacts/sft, artifacts/ppo, artifacts/reward and
    artifacts/prepare/pairs. Writes artifacts/acquire/pairs.jsonl (empty where acquire.run is false),
    metrics/acquire.json and provenance/acquire.json. No other stage waits for it.
    """
    from rlhf.acquire.params import AcquireParams
    from rlhf.acquire.write import write_questions

    params, at = run.section("acquire", AcquireParams), run.layout
    round_ = run.value("data.labels.round")
    if not params.run:
        write_questions(at, [])
        run.finish({"acquire_run": False}, inputs=[], outputs=[at.acquire])
        return
    from rlhf.acquire.run import Sizes, acquire

    run.check_inputs()
    sizes = Sizes(run.value("ppo.response_tokens"), run.value("reward.sample_batch"), run.value("reward.batch_tokens"))
    queue = acquire(at, params, sizes, runtime=run.runtime(), round_=round_)
    write_questions(at, queue.questions)
    run.finish(queue.metrics, inputs=[at.base, at.sft, at.ppo, at.reward, at.pairs], outputs=[at.acquire])


if __name__ == "__main__":
    main()
