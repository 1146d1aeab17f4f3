"""Measure the alternatives to PPO with the prompts, random numbers and measures by which `evaluate` measures PPO."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from rlhf.core.artifacts import read_json
from rlhf.core.layout import Layout
from rlhf.core.progress import track
from rlhf.core.runtime import Runtime
from rlhf.core.stats import mean_interval
from rlhf.measure.drift import response_logprobs
from rlhf.measure.forgetting import document_logprobs, perplexity, validation_documents
from rlhf.measure.functions import REWARD_MODELS, Functions
from rlhf.measure.metrics import comparison_metrics, policy_metrics
from rlhf.measure.panel import Panel, load_panel
from rlhf.measure.params import MeasureParams
from rlhf.measure.policies import measure_policy, measure_samples, sample_policy
from rlhf.measure.prompts import SPLIT_PROMPTS, choose_fitting
from rlhf.measure.responses import Responses
from rlhf.measure.samples import Row, side_by_side
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.best_of_n import best, kl_bound, kl_estimate
from rlhf.models.reward.scoring import ADAPTER
from rlhf.models.text.prompts import read_prompts, read_shown

Metrics = dict[str, object]


def measure_alternatives(
    at: Layout,
    methods: Mapping[str, Mapping[str, Any]],
    params: MeasureParams,
    runtime: Runtime,
    functions: Functions = REWARD_MODELS,
    *,
    corpus_share: float | None,
) -> tuple[dict[str, Metrics], list[Row]]:
    """Measure each policy, by its name in the table, and list SFT's and its replies side by side; best of n is one
    policy for each n.

    Raises:
        UserError: an artifact is missing, or the reward model is of another backbone.
    """
    trained = {name: at.offline(name) for name, policy in methods.items() if policy["kind"] == "adapter"}
    panel = load_panel(at, {f"offline_{name}": folder for name, folder in trained.items()}, params, runtime, functions)
    with closing(panel):
        return _measured(at, panel, methods, corpus_share)


def _measured(
    at: Layout, panel: Panel, methods: Mapping[str, Mapping[str, Any]], corpus_share: float | None
) -> tuple[dict[str, Metrics], list[Row]]:
    params = panel.params
    read = read_prompts(at.pairs / f"{params.split}.jsonl")
    prompts = choose_fitting(panel, read, params.prompts, SPLIT_PROMPTS).chosen
    documents = validation_documents(at.corpus, share=corpus_share, count=params.tax.documents, seed=panel.seed)
    sft = measure_policy(panel, prompts, SPLIT_PROMPTS, ADAPTER)
    found: dict[str, Metrics] = {}
    replies = {"sft": sft}
    with track(len(methods), "compare", unit="method") as bar:
        for name, policy in methods.items():
            bar.set_postfix_str(name)
            if policy["kind"] == "best_of_n":
                for n, (given, kl) in best_of_n(panel, prompts, policy["n"], sft).items():
                    replies[f"best_of_{n}"] = given
                    found[f"best_of_{n}"] = measures(given, sft, kl, panel.seed) | {
                        "kl_bound": kl_bound(n),
                        "tokens_per_reply": n * sum(sft.drift.tokens) / len(prompts),
                    }
            else:
                given = measure_policy(panel, prompts, SPLIT_PROMPTS, f"offline_{name}")
                replies[name] = given
                found[name] = of_adapter(given, sft, panel.seed) | _tokens(at, name)
                if documents:
                    found[name]["tax_perplexity"] = _perplexity(panel, documents, f"offline_{name}")
            bar.update()
    shown = read_shown(at.pairs / f"{params.split}.jsonl")
    return found, side_by_side(replies, params.samples, shown)


def of_adapter(given: Responses, sft: Responses, seed: int) -> Metrics:
    """Measure one trained policy's responses, against SFT's to the same prompts."""
    found = measures(given, sft, given.drift.k1, seed)
    if given.exact_kl:
        found |= mean_interval(given.exact_kl).named("kl_exact")
    return found | {"tokens_per_reply": sum(given.drift.tokens) / len(given.samples)}


def best_of_n(
    panel: Panel, prompts: Sequence[str], sizes: Sequence[int], sft: Responses
) -> dict[int, tuple[Responses, list[float]]]:
    """Choose for each n the best by the reward model of the first n samples of SFT, and estimate each response's KL.

    The samples are nested, and the first is the one that SFT itself is measured on: best of 1 is SFT.
    """
    rounds, rewards = [list(sft.samples)], [list(sft.rewards)]
    for number in range(1, max(sizes)):
        rounds.append(sample_policy(panel, prompts, ADAPTER, (panel.seed, "evaluate", SPLIT_PROMPTS, "again", number)))
        rewards.append(panel.scorer.score_samples(rounds[-1], batch_tokens=panel.params.batch_tokens))
    found = {}
    for n in sizes:
        chosen = [_best(rounds[:n], rewards[:n], index) for index in range(len(prompts))]
        logprobs = response_logprobs(
            panel.backbone,
            chosen,
            adapter=ADAPTER,
            temperature=panel.params.temperature,
            batch_tokens=panel.params.batch_tokens,
        )
        without_exact_kl = replace(panel, params=panel.params.model_copy(update={"exact_kl_prompts": 0}))
        found[n] = measure_samples(without_exact_kl, chosen, ADAPTER), [kl_estimate(n, logprob) for logprob in logprobs]
    return found


def _best(rounds: Sequence[Sequence[Sample]], rewards: Sequence[Sequence[float]], index: int) -> Sample:
    return best([samples[index] for samples in rounds], [scores[index] for scores in rewards])


def measures(given: Responses, sft: Responses, kl: Sequence[float], seed: int) -> Metrics:
    """Compute measures under names without the policy: reward, gold, ..., rm_winrate, ..., kl; ends of intervals as
    _low and _high."""
    of_policy = {
        name.replace("_x_", "_").removesuffix("_x"): value for name, value in policy_metrics({"x": given}, "").items()
    }
    return {**of_policy, **comparison_metrics(given, sft, "", seed), **mean_interval(kl).named("kl")}


def _tokens(at: Layout, method: str) -> Metrics:
    counted = read_json(at.metrics(f"offline_{method}"))
    return {name: counted.get(f"offline_{method}_{name}") for name in ("tokens_sampled", "tokens_trained")}


def _perplexity(panel: Panel, documents: Sequence[str], adapter: str) -> float:
    backbone, room = panel.backbone, panel.params.batch_tokens
    return perplexity(document_logprobs(backbone, documents, adapter=adapter, batch_tokens=room))
