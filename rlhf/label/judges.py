"""Who can compare a revision with the answer it revises: the gold reward, a language model, a reward model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf.core.artifacts import read_json
from rlhf.core.conversation import labelled
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.core.stats import wins
from rlhf.judge.cache import Cache
from rlhf.judge.client import Endpoint
from rlhf.judge.pairwise import Duel, judge
from rlhf.label.endpoint import check_key, make_endpoint
from rlhf.label.revisions import Judge, Outcomes
from rlhf.label.writers import EndpointWriter, Task, Writer
from rlhf.labels.record import Label

KINDS = ("gold", "model", "referee", "reward", "none")  # the most trusted first


def choose_judge(  # noqa: PLR0917 - what a run has
    at: Layout, known: Mapping[str, Any], wanted: str | None, writer: Writer, start: Callable[[], Runtime],
    say: Callable[[str], None],
) -> Judge | None:  # fmt: skip
    """Make the judge that is wanted, or of those that are there the most trusted one; None where none is wanted.
    `known`: the resolved parameters.

    Raises:
        UserError: it is not there, or it is the writer.
    """
    kind = wanted or _most_trusted(at, known, writer)
    if kind == "none":
        return None
    if kind == "gold":
        return by_gold(at)
    if kind == "model":
        endpoint = make_endpoint(known["evaluate"]["judge"], {})
        check_key(endpoint)
        return by_model(endpoint, Cache(at.judge_cache), writer, say)
    return _by_reward_model(at, kind, known["evaluate"]["batch_tokens"], start())


def by_model(endpoint: Endpoint, cache: Cache, writer: Writer, say: Callable[[str], None]) -> Judge:
    """Make a language model the judge, in both orders. Raises UserError where it is the writer itself."""
    model = endpoint.params.model
    if isinstance(writer, EndpointWriter) and writer.name.strip().lower() == model.strip().lower():
        raise UserError(
            f"label: --judge model: evaluate.judge.model is {model}, which writes the revisions itself; a judge "
            "that did not write them is needed: another model, or --judge gold, referee or reward"
        )

    def compare(labels: Sequence[Label]) -> Outcomes:
        duels = [Duel(labelled(Task(one.prompt).turns), one.b, one.a) for one in labels]
        judged = judge(duels, cache.asking(endpoint.params, endpoint.ask))
        if note := judged.note():
            say(f"note: {note}")
        return judged.outcomes

    return Judge(model, compare)


def by_gold(at: Layout) -> Judge:
    """Make the offline task's gold reward the judge. Raises UserError where the task has none."""
    if not _has_gold(at):
        raise UserError(
            f"label: --judge gold: {at.pairs / 'task.json'} knows no gold reward; the offline task alone has one"
        )
    from rlhf.synthetic.gold import gold_reward

    def compare(labels: Sequence[Label]) -> Outcomes:
        gains = [gold_reward(one.prompt, one.b) - gold_reward(one.prompt, one.a) for one in labels]
        return [*wins(gains)]

    return Judge("gold", compare)


def _by_reward_model(at: Layout, kind: str, batch_tokens: int, runtime: Runtime) -> Judge:
    from rlhf.models.policy.backbone import Backbone
    from rlhf.models.reward.referee import load_referee, scorer_of
    from rlhf.models.reward.scoring import ADAPTER, load_reward, read_under, reward_adapters

    adapters = reward_adapters(at.reward, sft=at.sft)
    load = load_reward if kind == "reward" else load_referee
    model = load(at.reward if kind == "reward" else at.referee, base=at.base, sft=at.sft)
    if model is None:
        raise UserError(
            "label: --judge referee: this run has no referee (reward.referee_share is 0); reward is another judge"
        )
    backbone = Backbone.load(at.base, adapters, dtype=runtime.dtype, device=runtime.device)
    scorer = scorer_of(model, backbone, under=read_under(adapters) if kind == "reward" else ADAPTER)

    def compare(labels: Sequence[Label]) -> Outcomes:
        texts = [text for one in labels for text in (one.b, one.a)]
        scores = scorer.score_texts([one.prompt for one in labels for _ in range(2)], texts, batch_tokens=batch_tokens)
        return [*wins([revision - first for revision, first in zip(scores[::2], scores[1::2], strict=True)])]

    return Judge(f"the {kind} model" if kind == "reward" else "the referee", compare)


def _most_trusted(at: Layout, known: Mapping[str, Any], writer: Writer) -> str:
    if _has_gold(at):
        return "gold"
    judge_ = known["evaluate"]["judge"]
    if judge_["endpoint"] and judge_["model"].strip().lower() != writer.name.strip().lower():
        return "model"
    measured = read_json(at.metrics("reward")) if at.metrics("reward").is_file() else {}
    beaten = measured.get("reward_referee_beats_length") is False  # it is no better than counting letters
    for kind, folder in (("referee", at.referee), ("reward", at.reward)):
        if kind == "referee" and beaten:
            continue
        if (folder / "reward.json").is_file():
            return kind
    raise UserError(
        "label: --judge: there is no gold reward, no evaluate.judge.endpoint of another model and no reward model in "
        f"{at.artifacts}; one of them is needed, or --judge none, which measures nothing"
    )


def _has_gold(at: Layout) -> bool:
    path = at.pairs / "task.json"
    return path.is_file() and read_json(path).get("gold") == "synthetic"
