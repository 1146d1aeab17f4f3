"""The evaluate stage: base, SFT and PPO on prompts that nothing was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.evaluate.answer import Gold, Panel, ask
from rlhf.evaluate.frontier import Episode, Point, frontier, read_episodes, summary
from rlhf.evaluate.judge.cache import Cache
from rlhf.evaluate.judge.client import Endpoint, read_key
from rlhf.evaluate.judge.duel import Duel, judge
from rlhf.evaluate.judge.params import JudgeParams
from rlhf.evaluate.metrics import all_metrics
from rlhf.evaluate.pairings import pairing_metrics
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.probing import chosen_probes, probe
from rlhf.evaluate.prompts import choose, read_prompts
from rlhf.evaluate.samples import Row, side_by_side
from rlhf.models.backbone import Backbone
from rlhf.models.sampling import Sample
from rlhf.models.scoring import (
    ADAPTER,
    Scorer,
    load_heldout,
    load_reward,
    prompts_that_fit,
    read_under,
    reward_adapters,
)
from rlhf.models.tokens import encode_prompt, encode_response
from rlhf.synthetic.gold import gold_reward


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the stage writes."""

    metrics: dict[str, object]
    samples: list[Row]
    frontier: list[Point]


def evaluate(at: Layout, params: EvaluateParams, runtime: Runtime) -> Evaluation:
    """Sample every policy on held-out and on out-of-distribution prompts, and measure what comes.

    Raises:
        UserError: an artifact is missing, the reward model is of another backbone, no prompt fits the context, or the
            judge's key is not there; all before anything is sampled. Or the judge fails for good.
    """
    if params.judge.prompts:
        read_key(params.judge)
    gold = known_gold(at.pairs)
    reward = load_reward(at.reward, base=at.base, sft=at.sft)
    heldout = load_heldout(at.reward_heldout, base=at.base, sft=at.sft)
    episodes = read_episodes(at.rollouts)
    held_out, ood = read_prompts(at.pairs / f"{params.split}.jsonl"), read_prompts(at.pairs / "ood.jsonl")
    if not held_out:
        raise UserError(f"{at.pairs / params.split}.jsonl: no prompts; at least one is needed")
    probes = chosen_probes(at.pairs, synthetic=gold is not None, count=params.probes, seed=runtime.seed)
    adapters = reward_adapters(at.reward, sft=at.sft)
    backbone = Backbone.load(at.base, {**adapters, "policy": at.ppo}, dtype=runtime.dtype, device=runtime.device)
    scorer = Scorer(backbone, reward.to(runtime.device), read_under(adapters))
    second = Scorer(backbone, heldout.to(runtime.device), ADAPTER) if heldout else None
    panel = Panel(scorer, gold, second, params, runtime.seed)
    asked, dropped = _fitting(panel, held_out, params.prompts, "held-out")
    ood_asked, ood_dropped = _fitting(panel, ood, params.ood_prompts, "ood") if ood and params.ood_prompts else ([], 0)

    answers = ask(panel, asked, "held-out")
    metrics = all_metrics(answers, "eval_", runtime.seed) | {"eval_too_long": dropped}
    if ood_asked:
        metrics |= all_metrics(ask(panel, ood_asked, "ood"), "eval_ood_", runtime.seed)
    else:
        metrics["eval_ood_prompts"] = 0
    metrics["eval_ood_too_long"] = ood_dropped
    metrics |= pairing_metrics(answers, "eval_") | probe(panel, probes)
    if params.judge.prompts:
        metrics |= by_language_model(answers["ppo"].samples, answers["sft"].samples, params.judge, at.judge_cache)
    points = frontier(episodes, gold, by_heldout(second, episodes, params.batch_tokens))
    return Evaluation(metrics | summary(points), side_by_side(answers, params.samples), points)


def by_language_model(
    ppo: Sequence[Sample], sft: Sequence[Sample], params: JudgeParams, cache: Path
) -> dict[str, object]:
    """PPO against SFT before a language model, on the first prompts: metrics `eval_judge_*`."""
    pairs = list(zip(ppo, sft, strict=True))[: params.prompts]
    duels = [Duel(a.prompt, a.response, b.response) for a, b in pairs]
    return judge(duels, Cache(cache).asking(params, Endpoint(params).ask)).metrics("eval_judge_")


def by_heldout(scorer: Scorer | None, episodes: Sequence[Episode], batch_tokens: int) -> list[float] | None:
    """The held-out reward model's score of each logged episode, from its text; None without such a model."""
    if scorer is None:
        return None
    tokenizer = scorer.backbone.tokenizer
    rows = [
        (encode_prompt(tokenizer, e.prompt), encode_response(tokenizer, e.response, ended=e.ended)) for e in episodes
    ]
    return scorer.score_rows(rows, batch_tokens=batch_tokens)


def known_gold(pairs: Path) -> Gold | None:
    """The gold reward of the task, where task.json says that there is one."""
    if read_json(pairs / "task.json").get("gold") != "synthetic":
        return None
    return lambda prompt, response, ended: gold_reward(prompt, response, ended=ended)


def _fitting(panel: Panel, prompts: list[str], count: int, name: str) -> tuple[list[str], int]:
    """The chosen prompts, and how many there were that leave no room for a response (they are not asked)."""
    fit = prompts_that_fit(panel.scorer.backbone, prompts, panel.params.response_tokens)
    return choose(fit, count, panel.seed, name), len(prompts) - len(fit)
