"""The loop over iterations: schedules, guards, validation, checkpoints, curves."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Curve
from rlhf.core.progress import say_resumed, track
from rlhf.ppo.episodes import EpisodeLog
from rlhf.ppo.guards import Tripped
from rlhf.ppo.learner import learning_rate_factor
from rlhf.ppo.state import Kept, Progress, restore, save
from rlhf.ppo.step import Experience, Setup, explore, step
from rlhf.ppo.types import Measures, Prompt
from rlhf.ppo.validation import validation_reward
from rlhf.training.interrupt import interruptible

COMPLETED = "completed"  # stop reasons beside those of the guards
BY_VALIDATION = {"reward": "validation_reward", "referee": "validation_referee"}  # by ppo.validation_by


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. The learner holds the weights of the policy to save."""

    progress: Progress
    reason: str  # COMPLETED, one of BY_VALIDATION or a guard's name
    detail: str  # what stopped it, in words; "" where it ran to its end
    final: Measures  # of the policy to save, on a batch of its own
    saved_iteration: int  # updates that the policy to save has seen

    @property
    def guarded(self) -> bool:
        """Tell whether a guard stopped the run."""
        return _is_guard(self.reason)


class _OutOfPatience(Exception):  # noqa: N818 - a reason to stop, not an error
    """Too many validations in a row were not the best."""


def train(setup: Setup, validation: Sequence[Prompt], *, checkpoints: Checkpoints, curve: Path) -> Outcome:
    """Run all iterations, or until a guard or the validation reward says stop; resume from the newest checkpoint.

    At the end the learner holds the policy to save: after a guard the last that was sound; else the one with the best
    validation reward, if `ppo.validation_every` asks for it; else the last. `curve` becomes a CSV with a row an
    iteration. Episodes are logged under the checkpoints' folder.

    Raises:
        Stopped: a signal came; everything is saved.
        SelfCheckError: forward passes disagree.
    """
    checkpoint = checkpoints.latest()
    progress = restore(checkpoint, setup.learner) if checkpoint else Progress.start(setup.params)
    if checkpoint:
        say_resumed("ppo", "iteration", progress.iteration, setup.params.iterations)
    log = EpisodeLog(checkpoints.folder, setup.params.logged_episodes)
    reason, detail = COMPLETED, ""
    try:
        _loop(setup, progress, validation, checkpoints=checkpoints, curve=Curve(curve, progress.rows), log=log)
    except Tripped as tripped:
        reason, detail = tripped.reason, tripped.detail
    except _OutOfPatience:
        reason, detail = BY_VALIDATION[setup.params.validation_by], f"not the best for {progress.misses} looks"
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
    """Iterate up to the last iteration, saving when it is time. Raises Tripped, _OutOfPatience or Stopped."""
    total = setup.params.iterations
    curve.write()  # a resumed run may have nothing left to append
    with interruptible() as stop, track(total, "ppo", initial=progress.iteration, unit="iteration") as bar:
        while progress.iteration < total:
            made = _iterate(setup, progress, validation)
            curve.append(progress.rows[-1])
            log.write(setup.actors, made.rollout, progress.iteration - 1)
            now = made.measures
            bar.set_postfix_str(f"score {now.score:.3f} KL {now.kl:.3f} length {now.length:.1f}", refresh=False)
            bar.update()
            if stop.agree(checkpoints.due(progress.iteration)):
                save(checkpoints, progress, setup.learner)
            stop.check(lambda: save(checkpoints, progress, setup.learner))
    _validate(setup, progress, validation, last=True)


def _iterate(setup: Setup, progress: Progress, validation: Sequence[Prompt]) -> Experience:
    """Run one iteration: moves the learner's weights and `progress`."""
    params, learner, iteration = setup.params, setup.learner, progress.iteration
    lr = learner.set_rate(learning_rate_factor(iteration, params.iterations, params.lr_schedule))
    reward = _validate(setup, progress, validation)
    start = Kept(learner.weights(), iteration, 0.0)
    try:
        made, stats = step(setup, progress)
    except Tripped as tripped:
        if tripped.by_update:  # the policy that sampled passed its guards
            progress.sound = start
        raise
    progress.sound = start
    progress.advance(params, made.measures, stats, lr=lr, validation=reward)
    return made


def _validate(setup: Setup, progress: Progress, validation: Sequence[Prompt], *, last: bool = False) -> float | None:
    """Measure the validation reward every `ppo.validation_every` iterations and keep the best policy.

    Raises:
        _OutOfPatience: the best one was too many validations ago.
    """
    every = setup.params.validation_every
    if every is None or (progress.iteration % every and not last):
        return None
    reward = validation_reward(setup, validation)
    if progress.best is None or reward > progress.best.reward:
        progress.best, progress.misses = Kept(setup.learner.weights(), progress.iteration, reward), 0
    else:
        progress.misses += 1
        if progress.misses >= setup.params.validation_patience and not last:
            raise _OutOfPatience
    return reward


def _finish(setup: Setup, progress: Progress, reason: str, detail: str, log: EpisodeLog) -> Outcome:
    """Put the policy to save into the learner and measure it; the very last one has to pass the guards too."""
    guarded = _is_guard(reason)
    saved = _return_to(progress.sound if guarded else progress.best, setup, progress)
    final = _measure(setup, progress)
    if not guarded:
        try:
            setup.check_policy(final.measures, progress.last_score if saved == progress.iteration else None)
        except Tripped as tripped:
            reason, detail = tripped.reason, tripped.detail
            saved = _return_to(progress.sound, setup, progress)
            final = _measure(setup, progress)
    setup.runtime.processes.check_same(setup.learner.weights())
    if saved == len(progress.rows):  # a policy whose episodes are not in the log yet
        log.write(setup.actors, final.rollout, saved)
    if reason != COMPLETED:
        sys.stderr.write(f"ppo: stopped by {reason} ({detail}); keeping the policy of iteration {saved}\n")
    return Outcome(progress=progress, reason=reason, detail=detail, final=final.measures, saved_iteration=saved)


def _is_guard(reason: str) -> bool:
    return reason not in (COMPLETED, *BY_VALIDATION.values())


def _return_to(kept: Kept | None, setup: Setup, progress: Progress) -> int:
    """Put the weights back to `kept`, if there are any; return how many updates the learner's weights have seen."""
    if kept is None:
        return progress.iteration
    setup.learner.restore_weights(kept.weights)
    return kept.iteration


def _measure(setup: Setup, progress: Progress) -> Experience:
    """Measure the learner's policy on a batch of prompts and random numbers that no iteration uses."""
    return explore(setup, progress, setup.params.iterations)
