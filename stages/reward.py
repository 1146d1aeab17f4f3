"""Fit the reward model: a head on the SFT policy, frozen or tuned with it."""

from pathlib import Path

from stages.cli import Run, stage_command


@stage_command("reward")
def main(run: Run) -> None:
    """Fit a reward head on preference pairs and measure it on the test split.

    Reads artifacts/prepare/pairs, base, conformance, sft, referee.backbone; writes artifacts/reward, referee (one more,
    on prompts of its own), reward_learned.json (what the first goes by), metrics, plots, cards, provenance. It resumes.
    """
    from rlhf.core.artifacts import atomic_dir, write_json
    from rlhf.core.curves import Curve
    from rlhf.models.reward.referee import save_referee
    from rlhf.models.reward.scoring import save_reward
    from rlhf.reward.held_out_metrics import write_reliability
    from rlhf.reward.params import RewardParams
    from rlhf.reward.train import train_reward
    from rlhf.reward.types import Folders

    params, at = run.section("reward", RewardParams), run.layout
    runtime, checkpoints, curve = run.runtime(), run.checkpoints(), Curve(at.plot("reward"))
    encoder = [path for path in [Path(run.value("referee.backbone"))] if path != at.sft]
    folders = Folders(at.pairs, at.base, at.sft, at.reward, at.conformance, *encoder)
    trained = train_reward(folders, params, runtime=runtime, checkpoints=checkpoints, curve=curve)
    with atomic_dir(at.reward) as folder:
        save_reward(trained.model, folder, base=at.base, sft=at.sft, tuned=trained.tuned)
    with atomic_dir(at.referee) as folder:
        save_referee(trained.referee, folder, base=at.base, sft=at.sft)
    write_json(at.reward_learned, trained.learned)
    write_reliability(at.plot("reward_calibration"), trained.test_margins, params.calibration_bins)
    outputs, cards = [at.reward, at.referee, at.reward_learned], [at.reward, *([at.referee] if trained.referee else [])]
    run.finish(trained.metrics, inputs=[at.pairs, at.base, at.sft, *encoder], outputs=outputs, cards=cards)


if __name__ == "__main__":
    main()
