"""Run `label constitution`: the writer, its revisions, the judge and the verdict."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.judge.cache import Cache
from rlhf.label import revisions
from rlhf.label.claim import claimed
from rlhf.label.constitution import Setting, read_tasks, revise, summary
from rlhf.label.endpoint import check_key, make_endpoint
from rlhf.label.judges import choose_judge
from rlhf.label.principles import DEFAULT, read_constitution
from rlhf.label.writers import EndpointWriter, PolicyWriter, Writer
from rlhf.labels.store import label_file


def constitute(
    at: Layout, known: Mapping[str, Any], start: Callable[[], Runtime], options: Mapping[str, Any], *,
    constitution: Path, prompts: Path, count: int, rounds: int, seed: int, labels: Path, judged: int,
    say: Callable[[str], None],
) -> Iterator[str]:  # fmt: skip
    """Write revisions and measure them; yield what to tell. `known`: the resolved parameters; `options`: policy, judge,
    and those of an endpoint, None where not given. Everything that can be wrong is checked before anything is written.

    Raises:
        UserError: as the parts: the constitution, the prompts, the policy, the endpoint or the judge.
    """
    principles = read_constitution(constitution if constitution.exists() else DEFAULT)
    tasks = read_tasks(prompts, count, seed)
    writer = _writer(at, known, start, options, seed)
    judge = choose_judge(at, known, options["judge"], writer, start, say)
    setting = Setting(principles, rounds, seed, labels)
    with claimed(at.judge_cache, setting.annotator(writer), labels):
        found = revise(tasks, writer, setting)
    file = label_file(labels, "constitution", setting.annotator(writer))
    yield summary(found, file)
    if judge is None:
        yield "verdict: none; nobody was asked whether revisions are better (--judge none)"
        return
    findings = revisions.measure(found.labels, judge, most=judged, seed=seed)
    revisions.write(findings, judge.name, file.with_suffix(".json"))
    yield from revisions.lines(findings, judge.name, file)


def _writer(
    at: Layout, known: Mapping[str, Any], start: Callable[[], Runtime], options: Mapping[str, Any], seed: int
) -> Writer:
    asked = {name: value for name, value in options.items() if name not in ("policy", "judge")}
    if options["policy"] and (options["endpoint"] or options["model"]):
        raise UserError("label: --policy and --endpoint: one of them writes, not both")
    if options["policy"]:
        ppo = known["ppo"]
        return PolicyWriter.load(
            at, options["policy"], known, start(), seed=seed,
            tokens=options["max_tokens"] or ppo["response_tokens"],
            temperature=options["temperature"] or ppo["temperature"],
        )  # fmt: skip
    if not options["endpoint"]:
        raise UserError("label: --policy or --endpoint: one of them is needed, to say who writes the revisions")
    endpoint = make_endpoint(known["evaluate"]["judge"], asked)
    check_key(endpoint)
    return EndpointWriter(endpoint, Cache(at.judge_cache))
