"""The `ppo` stage: from artifacts on disk to a policy, its metrics, curves and logged episodes."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from rlhf.core.artifacts import write_bytes, write_jsonl
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.models.fast.allocator import keep_memory
from rlhf.models.reward.function_source import FunctionSource
from rlhf.ppo.actors import load_actors
from rlhf.ppo.episodes import EpisodeLog
from rlhf.ppo.learner import Learner
from rlhf.ppo.params import PPOParams
from rlhf.ppo.prompts import PromptStream, check_fits, load_prompts
from rlhf.ppo.reward_sources import RewardSource
from rlhf.ppo.samplers.client import check_address
from rlhf.ppo.samplers.vllm import VllmSampler, note
from rlhf.ppo.state import finite
from rlhf.ppo.step import Setup
from rlhf.ppo.train import Outcome, train
from rlhf.ppo.types import Prompt
from rlhf.ppo.validation import choose_prompts, referee_source

_NO_FALLBACK = "none"  # ppo.fallback, and what metrics/ppo.json says of a run that keeps its own policy
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


def run_ppo(
    layout: Layout,
    params: PPOParams,
    runtime: Runtime,
    checkpoints: Checkpoints,
    versions: dict[str, str] | None = None,
) -> dict[str, object]:
    """Train, and write artifacts/ppo, artifacts/rollouts/ppo.jsonl and plots/ppo.csv; return the metrics.

    `versions` is filled with those of engines outside of this environment, for provenance.

    Raises:
        UserError: an input is missing or does not fit, before any work; a self-check failed; a reward function gave
            something else than rewards.
        Stopped: a signal came; the next run resumes.
    """
    check_fallback(params)
    if params.sampler == "vllm":
        check_address(params.sampler_url)
    with _reward_function(params) as function, ExitStack() as engines:
        setup, validation, counts = _prepare(layout, params, runtime, function)
        if params.sampler == "vllm":
            sampler = engines.enter_context(
                closing(VllmSampler(params.sampler_url, setup.actors.backbone, layout.base))
            )
            sys.stderr.write(f"ppo: {note(sampler, params.sampler_url)}\n")
            setup = replace(setup, actors=replace(setup.actors, engine_elsewhere=sampler))
            (versions if versions is not None else {}).update(sampler.version)
        outcome = train(setup, validation, checkpoints=checkpoints, curve=layout.plot("ppo"))
    setup.actors.save(layout.ppo)
    fallback = apply_fallback(layout.ppo, params, guarded=outcome.guarded)
    write_jsonl(layout.rollouts, EpisodeLog(checkpoints.folder, params.logged_episodes).rows())
    return metrics(outcome) | _prefixed(counts | {"fallback": fallback})


def _prepare(
    layout: Layout, params: PPOParams, runtime: Runtime, function: RewardSource | None
) -> tuple[Setup, list[Prompt], dict[str, object]]:
    """Load actors and prompts; return the setup, the validation prompts and metrics that count what was loaded."""
    if params.engine == "fast":
        keep_memory()
    actors = load_actors(
        base=layout.base,
        sft=layout.sft,
        reward=layout.reward,
        value_init=params.value_init,
        engine=params.engine,
        conformance=layout.conformance,
        runtime=runtime,
    )
    if function is not None:
        actors = replace(actors, source=function)
    tokenizer, longest = actors.backbone.tokenizer, params.max_prompt_tokens
    prompts, dropped = load_prompts(layout.pairs / "train.jsonl", tokenizer, longest=longest)
    validation: list[Prompt] = []
    if params.validation_every is not None:
        found, _ = load_prompts(layout.pairs / "validation.jsonl", tokenizer, longest=longest)
        validation = choose_prompts(found, params.validation_prompts, runtime.seed)
        if params.validation_by == "referee":
            actors = replace(actors, referee=referee_source(layout.referee, actors, sft=layout.sft))
    check_fits([*prompts, *validation], response_tokens=params.response_tokens, context=actors.backbone.context)
    learner = Learner(
        actors,
        lr=params.lr,
        value_lr=params.value_lr,
        adam_eps=params.adam_eps,
        max_grad_norm=params.max_grad_norm,
    )
    counts: dict[str, object] = {
        "prompts": len(prompts),
        "prompts_dropped": dropped,
        "trainable_parameters": sum(parameter.numel() for parameter in learner.parameters.values()),
        "validation_by": params.validation_by if validation else None,
    }
    return Setup(actors, learner, PromptStream(prompts, runtime.seed), params, runtime), validation, counts


@contextmanager
def _reward_function(params: PPOParams) -> Iterator[RewardSource | None]:
    """Run the reward function that the parameters name; None where the reward model gives the scores."""
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
    """Make metrics/ppo.json: flat, every name begins with ppo_; None where there is no number.

    `_final` is of the policy that is saved, measured on a batch of its own; what only an update can show is of the
    last iteration that ran, or None if there was none.
    """
    last = outcome.progress.rows[-1] if outcome.progress.rows else {}
    measured = ("score", "reward", "kl", "kl_k3", "entropy", "length", "ended", "explained_variance")
    updated = ("clip_fraction", "approx_kl", "policy_loss", "value_loss", "grad_norm")
    return _prefixed(
        {
            **{f"{name}_final": finite(getattr(outcome.final, name)) for name in measured},
            **{f"{name}_final": last.get(name) for name in updated},
            **outcome.progress.summary(),
            "saved_iteration": outcome.saved_iteration,
            "stop_reason": outcome.reason,
            "stop_detail": outcome.detail,
        }
    )


def _prefixed(values: dict[str, object]) -> dict[str, object]:
    return {f"ppo_{name}": value for name, value in values.items()}


def check_fallback(params: PPOParams) -> None:
    """Check that the policy to fall back on exists, before any work.

    Raises:
        UserError: `ppo.fallback` names one, and its adapter is not in `ppo.fallback_path`.
    """
    folder = Path(params.fallback_path)
    missing = [name for name in _ADAPTER_FILES if not (folder / name).is_file()]
    if params.fallback != _NO_FALLBACK and missing:
        raise UserError(
            f"{folder / missing[0]}: no such file; ppo.fallback is {params.fallback}, so "
            f"`python -m stages.offline {params.fallback}` (offline.{params.fallback}.run: true) comes first"
        )


def apply_fallback(policy: Path, params: PPOParams, *, guarded: bool) -> str:
    """Replace the adapter in folder `policy` by the fallback's, if there is one and a guard stopped the run.

    PPO's value head goes as well: it belongs to the policy that is replaced. Returns whose policy the folder holds
    then: the fallback's name, or "none" for PPO's own.
    """
    if not guarded or params.fallback == _NO_FALLBACK:
        return _NO_FALLBACK
    for name in _ADAPTER_FILES:
        write_bytes(policy / name, (Path(params.fallback_path) / name).read_bytes())
    (policy / "value_head.safetensors").unlink(missing_ok=True)
    sys.stderr.write(f"ppo: stopped by a guard; {policy} holds the policy of {params.fallback} (ppo.fallback)\n")
    return params.fallback
