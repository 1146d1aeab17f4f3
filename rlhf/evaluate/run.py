"""Run the evaluate stage: base, SFT and PPO on prompts that nothing was trained on."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.evaluate.inputs import EvaluateInputs, read_inputs
from rlhf.evaluate.overoptimisation import CurvePoint, Episode, overoptimisation, summary
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.people import Asked, Sheet, make_sheet
from rlhf.evaluate.probing import probe
from rlhf.judge.pairwise import Duel
from rlhf.judge.preflight import Bench
from rlhf.measure.forgetting import tax
from rlhf.measure.function_scorer import FunctionScorer
from rlhf.measure.functions import REWARD_MODELS, Functions
from rlhf.measure.metrics import all_metrics
from rlhf.measure.pairwise import pairing_metrics
from rlhf.measure.panel import Panel, SampleScorer
from rlhf.measure.policies import POLICIES, measure_policies
from rlhf.measure.prompts import OOD_PROMPTS, SPLIT_PROMPTS
from rlhf.measure.responses import Responses
from rlhf.measure.samples import Row, side_by_side, write_samples
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.encoder_referee import EncoderReferee
from rlhf.models.reward.scoring import Scorer
from rlhf.models.text.tokens import encode_prompt, encode_response


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything the stage writes."""

    metrics: dict[str, object]
    samples: list[Row]
    sheet: Sheet
    overoptimisation: list[CurvePoint]


def evaluate(
    at: Layout,
    params: EvaluateParams,
    runtime: Runtime,
    functions: Functions = REWARD_MODELS,
    *,
    corpus_share: float | None = None,
) -> Evaluation:
    """Sample every policy on the split's prompts and on out-of-distribution ones, and measure the responses.
    `corpus_share`: the validation share of the base model's pretraining; None where it was not pretrained here.

    Raises:
        UserError: as `read_inputs`, before anything is sampled; a filled-in sheet is of other responses; or the judge
            fails for good.
    """
    given = read_inputs(at, params, runtime, functions, corpus_share=corpus_share)
    with closing(given.panel):
        return _measure(given, params, runtime.seed)


def _measure(given: EvaluateInputs, params: EvaluateParams, seed: int) -> Evaluation:
    panel = given.panel
    responses = measure_policies(panel, given.prompts.chosen, SPLIT_PROMPTS)
    sheet = _sheet(responses, params.people.rows, seed, given.shown)
    metrics = all_metrics(responses, "eval_", seed) | sheet.count(given.people).metrics("eval_people_")
    if given.ood.chosen:
        metrics |= all_metrics(measure_policies(panel, given.ood.chosen, OOD_PROMPTS), "eval_ood_", seed)
    else:
        metrics["eval_ood_prompts"] = 0
    metrics |= {"eval_too_long": given.prompts.too_long, "eval_ood_too_long": given.ood.too_long}
    metrics |= function_metrics(panel, responses["sft"])
    metrics |= pairing_metrics(responses, "eval_") | probe(panel, given.probes)
    metrics |= tax(panel, given.benchmarks, given.documents)
    if given.judge:
        ppo, sft = responses["ppo"].samples, responses["sft"].samples
        metrics |= by_language_model(ppo, sft, given.judge, params.judge.prompts, given.shown)
    points = overoptimisation(
        given.episodes, panel.gold, by_referee(panel.referee, given.episodes, params.batch_tokens)
    )
    return Evaluation(metrics | summary(points), side_by_side(responses, params.samples, given.shown), sheet, points)


def function_metrics(panel: Panel, sft: Responses) -> dict[str, object]:
    """Name the functions that judged, and give the unit of PPO's: the standard deviation of its scores of SFT's
    replies (n - 1 below), which a reward model's scores have built in; count what a referee's encoder did not read to
    the end. Nothing where reward models judged."""
    found: dict[str, object] = {}
    if isinstance(panel.scorer, FunctionScorer):
        unit = statistics.stdev(sft.rewards) if len(sft.rewards) > 1 else None
        found |= {"eval_reward_by": panel.scorer.name, "eval_reward_std_sft": unit}
    if isinstance(panel.referee, FunctionScorer):
        found["eval_referee_by"] = panel.referee.name
    if isinstance(panel.referee, EncoderReferee):
        found |= panel.referee.cut_metrics("eval_referee_")
    return found


def write(found: Evaluation, folder: Path, split: str) -> None:
    """Write samples.jsonl and samples.md, and where there is one the sheet for people with its key."""
    write_samples(folder, found.samples, list(POLICIES), f"{len(found.samples)} prompts of {split}")
    if found.sheet.rows:
        found.sheet.write(folder)


def by_language_model(
    ppo: Sequence[Sample], sft: Sequence[Sample], bench: Bench, count: int, shown: Mapping[str, str]
) -> dict[str, object]:
    """Let a language model compare PPO with SFT, on the first `count` prompts, as `shown` has them: metrics
    `eval_judge_*`."""
    pairs = list(zip(ppo, sft, strict=True))[:count]
    judged = bench.judge([Duel(shown.get(a.prompt, a.prompt), a.response, b.response) for a, b in pairs])
    if note := judged.note():
        sys.stderr.write(f"evaluate: {note}\n")
    return judged.metrics("eval_judge_")


def by_referee(scorer: SampleScorer | None, episodes: Sequence[Episode], batch_tokens: int) -> list[float] | None:
    """Score the text of each logged episode by the referee; None without one."""
    if isinstance(scorer, FunctionScorer):
        return scorer.score_texts([e.prompt for e in episodes], [e.response for e in episodes])
    if isinstance(scorer, EncoderReferee):
        texts = [e.prompt for e in episodes], [e.response for e in episodes]
        return scorer.score_texts(*texts, batch_tokens=batch_tokens)
    if not isinstance(scorer, Scorer):
        return None
    tokenizer = scorer.backbone.tokenizer
    rows = [
        (encode_prompt(tokenizer, e.prompt), encode_response(tokenizer, e.response, ended=e.ended)) for e in episodes
    ]
    return scorer.score_rows(rows, batch_tokens=batch_tokens)


def _sheet(responses: Mapping[str, Responses], rows: int, seed: int, shown: Mapping[str, str]) -> Sheet:
    """Make the sheet for people: PPO against SFT on the first prompts."""
    pairs = list(zip(responses["ppo"].samples, responses["sft"].samples, strict=True))[:rows]
    asked = [Asked(shown.get(a.prompt, a.prompt), a.response, b.response) for a, b in pairs]
    return make_sheet(asked, ("ppo", "sft"), seed)
