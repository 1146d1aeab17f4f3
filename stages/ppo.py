"""Optimise the policy against the reward model by proximal policy optimisation."""

from pathlib import Path

from stages.cli import Run, stage_command


@stage_command("ppo")
def main(run: Run) -> None:
    """Optimise the policy with PPO against the reward model, close to the SFT policy.

    Reads artifacts/base, artifacts/conformance, artifacts/sft, artifacts/reward, artifacts/referee (where the policy is
    chosen by it) and the prompts of artifacts/prepare/pairs; writes artifacts/ppo (LoRA adapter, value head, tokenizer,
    model card), artifacts/rollouts/ppo.jsonl, plots/ppo.csv, metrics/ppo.json and provenance/ppo.json. Killed or
    stopped, it resumes.
    """
    from rlhf.ppo.params import PPOParams
    from rlhf.ppo.run import run_ppo

    params = run.section("ppo", PPOParams)
    at, checkpoints = run.layout, run.checkpoints()
    versions: dict[str, str] = {}
    metrics = run_ppo(at, params, run.runtime(), checkpoints, versions)
    handed_on = [] if metrics["ppo_fallback"] == "none" else [Path(params.fallback_path)]
    run.finish(
        metrics,
        inputs=[at.base, at.sft, at.reward, at.pairs, *handed_on],
        outputs=[at.ppo],
        cards=[at.ppo],
        versions=versions,
    )


if __name__ == "__main__":
    main()
