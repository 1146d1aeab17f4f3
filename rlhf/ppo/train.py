"""The loop over iterations: schedules, guards, checkpoints, curves."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Curve
from rlhf.core.progress import say_resumed, track
from rlhf.ppo.episodes import EpisodeLog
from rlhf.ppo.guards import Tripped
from rlhf.ppo.kl import make_controller
from rlhf.ppo.learner import learning_rate_factor
from rlhf.ppo.state import Kept, Progress, make_row, restore, save
from rlhf.ppo.step import Experience, Setup, experience, step
from rlhf.ppo.types import Measures, Prompt
from rlhf.ppo.validation import validation_reward
from rlhf.training.interrupt import interruptible

COMPLETED = "completed"  # stop reasons beside those of the guards
LOOKS = {"reward": "validation_reward", "referee": "validation_referee"}  # by ppo.validation_by


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. The policy to save is in the learner's weights."""

    progress: Progress
    reason: str  # COMPLETED, one of LOOKS or a guard's name
    detail: str  # what the guard saw; "" where it says nothing
    final: Measures  # of the policy that is saved, on a batch of its own
    saved_iteration: int  # updates that the saved policy has seen

    @property
    def guarded(self) -> bool:
        """Whether a guard stopped it."""
        return self.reason not in (COMPLETED, *LOOKS.values())


class _Patience(Exception):  # noqa: N818 - a reason to stop, not an error
    """The held-out reward has not been its best for too long."""


def train(setup: Setup, validation: Sequence[Prompt], *, checkpoints: Checkpoints, curve: Path) -> Outcome:
    """Run all iterations, or until a guard or the held-out reward says stop; resume from the newest checkpoint.

    At the end the learner holds the policy to save: after a guard the last that was sound; else the best on held-out
    prompts if those are looked at; else the last. Episodes are logged under the checkpoints' folder.

    Raises:
        Stopped: a signal came; everything is saved.
        SelfCheckError: forward passes disagree.
    """
    checkpoint = checkpoints.latest()
    progress = restore(checkpoint, setup.learner) if checkpoint else Progress(kl_coef=setup.params.kl_coef)
    if checkpoint:
        say_resumed("ppo", "iteration", progress.iteration, setup.params.iterations)
    log = EpisodeLog(checkpoints.folder, setup.params.logged_episodes)
    reason, detail = COMPLETED, ""
    try:
        _loop(setup, progress, validation, checkpoints=checkpoints, curve=Curve(curve, progress.rows), log=log)
    except Tripped as tripped:
        reason, detail = tripped.reason, tripped.detail
    except _Patience:
        reason, detail = LOOKS[setup.params.validation_by], f"not the best for {progress.misses} looks"
    return _finish(setup, progress, reason, detail, log)


def _loop(
    setup: Setup,
    progress: Progress,
    validation: Sequence[Prompt],
    *,
    checkpoints: Checkpoints,
    curve: Curve,
    log: EpisodeLog,
) -> None:
    """Iterations up to the last, saving when it is time. Raises Tripped, _Patience or Stopped."""
    total = setup.params.iterations
    curve.write()  # a resumed run may have nothing left to append
    with interruptible() as stop, track(total, "ppo", initial=progress.iteration, unit="iteration") as bar:
        while progress.iteration < total:
            episodes = _iterate(setup, progress, validation)
            curve.append(progress.rows[-1])
            log.write(setup.actors, episodes.rollout, progress.iteration - 1)
            now = episodes.measures
            bar.set_postfix_str(f"score {now.score:.3f} KL {now.kl:.3f} length {now.length:.1f}", refresh=False)
            bar.update()
            if checkpoints.due(progress.iteration):
                save(checkpoints, progress, setup.learner)
            stop.check(lambda: save(checkpoints, progress, setup.learner))
    _look(setup, progress, validation, last=True)


def _iterate(setup: Setup, progress: Progress, validation: Sequence[Prompt]) -> Experience:
    """One iteration: moves the learner's weights and `progress`."""
    params, learner, iteration = setup.params, setup.learner, progress.iteration
    lr = learner.set_rate(learning_rate_factor(iteration, params.iterations, params.lr_schedule))
    looked = _look(setup, progress, validation)
    controller = make_controller(
        params.kl_controller, coef=progress.kl_coef, target=params.kl_target, horizon=params.kl_horizon
    )
    start = Kept(learner.weights(), iteration, 0.0)
    try:
        episodes, stats, moved = step(setup, controller, progress.last_score, iteration=iteration)
    except Tripped as tripped:
        if tripped.by_update:  # the policy that sampled passed its guards
            progress.sound = start
        raise
    progress.sound = start
    progress.rows.append(
        make_row(iteration, episodes.measures, stats, kl_coef=progress.kl_coef, lr=lr, validation=looked)
    )
    progress.kl_coef = moved.coef
    progress.ratio_gap = max(progress.ratio_gap, stats.first_ratio_gap)
    progress.first_approx_kl = max(progress.first_approx_kl, abs(stats.first_approx_kl))
    progress.sampler_gap = max(progress.sampler_gap, episodes.measures.sampler_gap)
    progress.iteration = iteration + 1
    return episodes


def _look(setup: Setup, progress: Progress, validation: Sequence[Prompt], *, last: bool = False) -> float | None:
    """The held-out reward, every so often; keeps the best policy. Raises _Patience if that was too long ago."""
    every = setup.params.validation_every
    if every is None or (progress.iteration % every and not last):
        return None
    reward = validation_reward(setup, validation)
    if progress.best is None or reward > progress.best.reward:
        progress.best, progress.misses = Kept(setup.learner.weights(), progress.iteration, reward), 0
    else:
        progress.misses += 1
        if progress.misses >= setup.params.validation_patience and not last:
            raise _Patience
    return reward


def _finish(setup: Setup, progress: Progress, reason: str, detail: str, log: EpisodeLog) -> Outcome:
    """Put the policy to save into the learner and measure it; the very last one has to pass the guards too."""
    guarded = reason not in (COMPLETED, *LOOKS.values())
    saved = _go_to(setup, progress.sound if guarded else progress.best, progress.iteration)
    final = _measured(setup, progress)
    if not guarded:
        try:
            setup.check_policy(final.measures, progress.last_score if saved == progress.iteration else None)
        except Tripped as tripped:
            reason, detail = tripped.reason, tripped.detail
            saved = _go_to(setup, progress.sound, progress.iteration)
            final = _measured(setup, progress)
    if saved == len(progress.rows):  # a policy whose episodes are not in the log yet
        log.write(setup.actors, final.rollout, saved)
    if reason != COMPLETED:
        sys.stderr.write(f"ppo: stopped by {reason} ({detail}); keeping the policy of iteration {saved}\n")
    return Outcome(progress, reason, detail, final.measures, saved)


def _go_to(setup: Setup, kept: Kept | None, iteration: int) -> int:
    """Weights back to `kept`, if there is one; returns how many updates they have seen."""
    if kept is None:
        return iteration
    setup.learner.restore_weights(kept.weights)
    return kept.iteration


def _measured(setup: Setup, progress: Progress) -> Experience:
    """The learner's policy on a batch of prompts and random numbers that no iteration uses."""
    last, size = setup.params.iterations, setup.params.batch
    return experience(setup, setup.prompts.batch(last, size), setup.uniforms(last), progress.kl_coef)
