"""The `ppo` stage: from artifacts on disk to a policy, its metrics, curves and logged episodes."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from rlhf.core.artifacts import write_bytes, write_jsonl, write_metrics
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.models.fast.allocator import keep_memory
from rlhf.ppo.actors import load_actors
from rlhf.ppo.episodes import EpisodeLog
from rlhf.ppo.function_source import FunctionSource
from rlhf.ppo.learner import Learner
from rlhf.ppo.params import PPOParams
from rlhf.ppo.prompts import PromptStream, check_fits, load_prompts
from rlhf.ppo.reward_sources import RewardSource
from rlhf.ppo.state import finite
from rlhf.ppo.step import Setup
from rlhf.ppo.train import Outcome, train
from rlhf.ppo.types import Prompt
from rlhf.ppo.validation import choose, referee_source


def run_ppo(layout: Layout, params: PPOParams, runtime: Runtime, checkpoints: Checkpoints) -> None:
    """Train, and write artifacts/ppo, artifacts/rollouts/ppo.jsonl, metrics/ppo.json and plots/ppo.csv.

    Raises:
        UserError: an input is missing or does not fit, before any work; a self-check failed; a reward function gave
            something else than rewards.
        Stopped: a signal came; the next run resumes.
    """
    if runtime.world_size > 1:
        raise UserError(f"ppo: started as {runtime.world_size} processes; it runs in one")
    check_fallback(params)
    with _function(params) as source:
        _run(layout, params, runtime, checkpoints, source)


def _run(
    layout: Layout, params: PPOParams, runtime: Runtime, checkpoints: Checkpoints, source: RewardSource | None
) -> None:
    if params.engine == "fast":
        keep_memory()
    actors = load_actors(
        base=layout.base,
        sft=layout.sft,
        reward=layout.reward,
        value_init=params.value_init,
        engine=params.engine,
        runtime=runtime,
    )
    if source is not None:
        actors = replace(actors, source=source)
    tokenizer, longest = actors.backbone.tokenizer, params.max_prompt_tokens
    prompts, dropped = load_prompts(layout.pairs / "train.jsonl", tokenizer, longest=longest)
    validation: list[Prompt] = []
    if params.validation_every is not None:
        found, _ = load_prompts(layout.pairs / "validation.jsonl", tokenizer, longest=longest)
        validation = choose(found, params.validation_prompts, runtime.seed)
        if params.validation_by == "referee":
            judge = referee_source(layout.referee, actors, sft=layout.sft)
            actors = replace(actors, referee=judge)
    check_fits([*prompts, *validation], response_tokens=params.response_tokens, context=actors.backbone.context)
    learner = Learner(
        actors,
        lr=params.lr,
        value_lr=params.value_lr,
        adam_eps=params.adam_eps,
        max_grad_norm=params.max_grad_norm,
    )
    setup = Setup(actors, learner, PromptStream(prompts, runtime.seed), params, runtime)
    outcome = train(setup, validation, checkpoints=checkpoints, curve=layout.plot("ppo"))
    actors.save(layout.ppo)
    fallback = hand_on(layout.ppo, params, guarded=outcome.guarded)
    write_jsonl(layout.rollouts, EpisodeLog(checkpoints.folder, params.logged_episodes).rows())
    counts: dict[str, object] = {"prompts": len(prompts), "prompts_dropped": dropped, "fallback": fallback}
    weights = sum(parameter.numel() for parameter in learner.parameters.values())
    counts |= {"trainable_parameters": weights, "validation_by": params.validation_by if validation else None}
    write_metrics(layout.metrics("ppo"), metrics(outcome) | _named(counts))


@contextmanager
def _function(params: PPOParams) -> Iterator[RewardSource | None]:
    """The reward function that the parameters name, running; None where the reward model gives the scores."""
    if params.source == "model":
        yield None
        return
    folder = Path(params.function_path)
    if not params.function or not folder.is_dir():
        raise UserError(
            "ppo.source is function, so ppo.function must be a module:function in the folder ppo.function_path "
            f"(found {params.function!r} and {params.function_path!r})"
        )
    with closing(FunctionSource(params.function, timeout_s=params.function_timeout_s, folder=folder)) as source:
        yield source


def metrics(outcome: Outcome) -> dict[str, object]:
    """metrics/ppo.json: flat, every name begins with ppo_; None where there is no number.

    `_final` is of the policy that is saved, measured on a batch of its own; what only an update can show is of the
    last iteration that ran, or None if there was none.
    """
    progress, final = outcome.progress, outcome.final
    last = progress.rows[-1] if progress.rows else {}
    scores = [(row["score"], row["iteration"]) for row in progress.rows if isinstance(row["score"], float)]
    best = max(scores, key=lambda pair: pair[0], default=(None, None))
    measured = ("score", "reward", "kl", "kl_k3", "entropy", "length", "ended", "explained_variance")
    updated = ("clip_fraction", "approx_kl", "policy_loss", "value_loss", "grad_norm")
    return _named(
        {
            **{f"{name}_final": finite(getattr(final, name)) for name in measured},
            **{f"{name}_final": last.get(name) for name in updated},
            "score_first": progress.rows[0]["score"] if progress.rows else None,
            "score_best": best[0],
            "score_best_iteration": best[1],
            "validation_reward_best": progress.best.reward if progress.best else None,
            "iterations": len(progress.rows),
            "saved_iteration": outcome.saved_iteration,
            "stop_reason": outcome.reason,
            "stop_detail": outcome.detail,
            "kl_coef_final": progress.kl_coef,
            "check_ratio_gap": progress.ratio_gap,
            "check_approx_kl": progress.first_approx_kl,
            "check_sampler_gap": progress.sampler_gap,
        }
    )


def _named(values: dict[str, object]) -> dict[str, object]:
    return {f"ppo_{name}": value for name, value in values.items()}


NONE = "none"
FILES = ("adapter_model.safetensors", "adapter_config.json")


def check_fallback(params: PPOParams) -> None:
    """Before any work.

    Raises:
        UserError: a policy is to be fallen back on, and there is none.
    """
    folder = Path(params.fallback_path)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if params.fallback != NONE and missing:
        raise UserError(
            f"{folder / missing[0]}: no such file; ppo.fallback is {params.fallback}, so "
            f"`python -m stages.offline {params.fallback}` (offline.{params.fallback}.run: true) comes first"
        )


def hand_on(policy: Path, params: PPOParams, *, guarded: bool) -> str:
    """Put the fallback's adapter in the place of PPO's in folder `policy` if the run was stopped by a guard and there
    is a fallback; returns whose policy lies there now: NONE for PPO's own, or the fallback's name. PPO's value head
    goes, since it belongs to PPO's policy."""
    if not guarded or params.fallback == NONE:
        return NONE
    for name in FILES:
        write_bytes(policy / name, (Path(params.fallback_path) / name).read_bytes())
    (policy / "value_head.safetensors").unlink(missing_ok=True)
    sys.stderr.write(f"ppo: stopped by a guard; {policy} holds the policy of {params.fallback} (ppo.fallback)\n")
    return params.fallback
