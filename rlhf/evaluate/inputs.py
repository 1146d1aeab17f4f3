"""Read and check everything that `evaluate` needs, before anything is sampled."""

from dataclasses import dataclass
from pathlib import Path

from rlhf.core.checkpoint import fingerprint
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.evaluate.overoptimisation import Episode, read_episodes
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.people import SheetAnswer, read_sheets
from rlhf.evaluate.probing import chosen_probes
from rlhf.judge.cache import Cache
from rlhf.judge.client import Endpoint
from rlhf.judge.keys import read_key
from rlhf.judge.preflight import Bench
from rlhf.measure.forgetting import validation_documents
from rlhf.measure.functions import Functions
from rlhf.measure.panel import Panel, known_gold, load_panel
from rlhf.measure.prompts import OOD_PROMPTS, SPLIT_PROMPTS, Prompts, choose_fitting
from rlhf.measure.tax import Item, read_benchmarks
from rlhf.models.text.prompts import read_prompts, read_shown
from rlhf.synthetic.beliefs import Probe


@dataclass(frozen=True, slots=True)
class EvaluateInputs:
    """The prompts, probes and benchmarks to ask, and the models that measure the responses."""

    panel: Panel
    prompts: Prompts  # of evaluate.split
    ood: Prompts
    probes: list[Probe]
    benchmarks: dict[str, list[Item]]
    documents: list[str]
    people: list[dict[str, SheetAnswer]]
    episodes: list[Episode]  # that PPO logged
    judge: Bench | None  # tried out
    shown: dict[str, str]  # each prompt of evaluate.split, as readers see it


def read_inputs(
    at: Layout, params: EvaluateParams, runtime: Runtime, functions: Functions, *, corpus_share: float | None
) -> EvaluateInputs:
    """Read and check everything. `corpus_share`: the validation share of pretraining; None if there was none.

    Raises:
        UserError: an artifact is missing, a reward model is of another backbone, no prompt fits the context, a row of a
            benchmark, probe or sheet is broken (file:line), the judge does not answer, or a function cannot be had.
    """
    seed = runtime.seed
    if params.judge.prompts:
        read_key(params.judge.key_env, params.judge.endpoint)
    gold = known_gold(at.pairs)
    episodes = read_episodes(at.rollouts)
    prompts, ood = read_prompts(at.pairs / f"{params.split}.jsonl"), read_prompts(at.pairs / "ood.jsonl")
    if not prompts:
        raise UserError(f"{at.pairs / params.split}.jsonl: no prompts; at least one is needed")
    probes = chosen_probes(at.pairs, synthetic=gold is not None, count=params.probes, seed=seed)
    benchmarks = read_benchmarks(Path(params.tax.path), count=params.tax.items, seed=seed)
    documents = validation_documents(at.corpus, share=corpus_share, count=params.tax.documents, seed=seed)
    people = read_sheets(Path(params.people.path))
    judge = ready_judge(at, params, runtime) if params.judge.prompts else None

    panel = load_panel(at, {"policy": at.ppo}, params, runtime, functions)
    return EvaluateInputs(
        panel,
        choose_fitting(panel, prompts, params.prompts, SPLIT_PROMPTS),
        choose_fitting(panel, ood, params.ood_prompts, OOD_PROMPTS),
        probes,
        benchmarks,
        documents,
        people,
        episodes,
        judge,
        read_shown(at.pairs / f"{params.split}.jsonl"),
    )


def ready_judge(at: Layout, params: EvaluateParams, runtime: Runtime) -> Bench:
    """Make the language model that judges ready and try it out. Its plan is a hash of the question's form and of all
    that the two policies' responses follow from, except the code and the base's own weights (gigabytes to hash: what
    was trained on them tells). Raises UserError if it does not answer."""
    settings = {
        "judge": params.judge.model_dump(include={"prompts", "endpoint", "model", "temperature", "max_tokens"}),
        "asked": params.model_dump(include={"split", "prompts", "response_tokens", "temperature"}),
        "runtime": [runtime.seed, str(runtime.dtype), str(runtime.device)],
    }
    plan = fingerprint(settings, [at.base / "config.json", at.sft, at.ppo, at.pairs / f"{params.split}.jsonl"])
    bench = Bench(Endpoint(params.judge), Cache(at.judge_cache), plan)
    bench.try_out()
    return bench
