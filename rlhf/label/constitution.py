"""Let answers be criticised and revised under a constitution (CAI; Bai et al. 2022, arXiv 2212.08073, section 3.1).

A writer answers a prompt; then, round by round, a principle is drawn by the seed, the writer criticises its last answer
by it and revises it. Each pair of the first answer and a revision is a label that prefers the revision. Whether it is
better is another question, which `rlhf.label.revisions` puts to a judge that wrote neither.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.core.progress import track
from rlhf.core.seeding import rng
from rlhf.judge.client import BudgetSpent
from rlhf.label.ai import annotator_name
from rlhf.label.principles import Constitution, Principle
from rlhf.label.turns import Asked
from rlhf.label.writers import Item, Task, Writer
from rlhf.labels.read import read_labels
from rlhf.labels.record import Label
from rlhf.labels.store import append, label_file

RULES = ("no_answer", "no_revision", "empty", "unchanged")


@dataclass(frozen=True, slots=True)
class Setting:
    """What beside the writer a revision depends on, and where labels go. `asked_in`: the run's round, of the labels."""

    constitution: Constitution
    rounds: int
    seed: int
    folder: Path
    asked_in: int = 0

    def annotator(self, writer: Writer) -> str:
        """Name the annotator: another writer, constitution or seed is another one."""
        short = annotator_name(f"{writer.name[:20]}-{writer.digest[:6]}-{self.constitution.digest[:6]}-{self.seed}")
        return short[:40]


@dataclass(slots=True)
class Revised:
    """What a run of `revise` has come to."""

    labels: list[Label]  # of these prompts, of this run and earlier ones
    counts: Counter[str] = field(default_factory=Counter)  # by RULES: revisions of this run that became no label
    unasked: int = 0  # prompts that the budget had no room for


def read_tasks(path: Path, count: int, seed: int) -> list[Task]:
    """Draw at most `count` prompts by the seed, each once, from JSON lines with `prompt`, and `conversation` where a
    template wrote it.

    Raises:
        UserError: file:line; there is no prompt.
    """
    found: dict[str, Task] = {}
    for number, row in iter_jsonl(path):
        prompt, turns = row.get("prompt"), row.get("conversation")
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(
                f"{path}:{number}: prompt: found {type(prompt).__name__}; a text that is not blank is needed"
            )
        try:
            asked = Asked(prompt=prompt, a="", b="", conversation=turns)
        except ValueError:
            raise UserError(f"{path}:{number}: conversation: turns with role and content are needed") from None
        said = tuple(Turn(one.role, one.content) for one in asked.conversation or ())
        found.setdefault(prompt, Task(prompt, said))
    if not found:
        raise UserError(f"{path}: no prompts; a JSON object with prompt a line is needed")
    return rng(seed, "label", "constitution", "prompts").sample(list(found.values()), min(count, len(found)))


def revise(tasks: Sequence[Task], writer: Writer, setting: Setting) -> Revised:
    """Answer, criticise and revise; each label is on disk before the next prompts are begun. Prompts whose last
    revision is on disk are not asked again.

    Raises:
        UserError: the writer's endpoint fails for good, or the disk is full; what was written stays.
    """
    name = setting.annotator(writer)
    done, counts, unasked = revisions_by(name, setting.folder), Counter[str](), 0
    have = {label.question.id for labels in done.values() for label in labels}
    with track(len(tasks), "label constitution", unit="prompt") as bar:
        for start in range(0, len(tasks), writer.block):
            part = tasks[start : start + writer.block]
            bar.update(len(part))
            if all(_last(done.get(task.prompt, ()), writer.name) == setting.rounds for task in part):
                continue
            try:
                for label in _block(part, writer, setting, name, start, counts):
                    if label.question.id not in have:
                        append(setting.folder, label)
                        have.add(label.question.id)
            except BudgetSpent:
                unasked = len(tasks) - start
                break
            except UserError as error:
                kept = f"{len(have)} revisions are kept; the same command goes on with the rest"
                raise UserError(f"{error}; {kept}") from None
    done, wanted = revisions_by(name, setting.folder), {task.prompt for task in tasks}
    return Revised([one for prompt, labels in done.items() if prompt in wanted for one in labels], counts, unasked)


def summary(found: Revised, file: Path) -> str:
    """Say in one line what was written, and what became no label."""
    told = [f"{count} {rule.replace('_', ' ')}" for rule in RULES if (count := found.counts[rule])]
    prompts = len({one.prompt for one in found.labels})
    line = f"{file}: {len(found.labels)} revisions of {prompts} prompts" + (
        f"; left out: {', '.join(told)}" if told else ""
    )
    if found.unasked:
        line += f"; the budget is spent, {found.unasked} prompts are left: the same command goes on with them"
    return line


def revisions_by(annotator: str, folder: Path) -> dict[str, list[Label]]:
    """Read a constitution's labels, by prompt."""
    path, found = label_file(folder, "constitution", annotator), dict[str, list[Label]]()
    for one in read_labels(path).answers if path.exists() else ():
        found.setdefault(one.prompt, []).append(one)
    return found


def round_of(label: Label) -> int:
    """Return which revision a label prefers: 1 is the first."""
    number = label.policy_b.rpartition(", revision ")[2].partition(":")[0]
    return int(number) if number.isdecimal() else 0


def _last(labels: Sequence[Label], writer: str) -> int:
    return max((round_of(label) for label in labels if label.policy_a == writer), default=0)


def _block(  # noqa: PLR0917 - a block of a run is all of its parts
    tasks: Sequence[Task], writer: Writer, setting: Setting, annotator: str, start: int, counts: Counter[str]
) -> list[Label]:
    firsts = writer.write([Item(task) for task in tasks], start, "answer")
    current = {i: text for i, text in enumerate(firsts) if text is not None and text.strip()}
    counts["no_answer"] += len(tasks) - len(current)
    labels = []
    for number in range(1, setting.rounds + 1):
        drawn = {i: _draw(setting, tasks[i], number) for i in current}
        for i, text in _revised({i: tasks[i] for i in current}, current, drawn, writer, (start, number)).items():
            first = str(firsts[i])
            rule = "no_revision" if text is None else "empty" if not text.strip() else None
            rule = rule or ("unchanged" if str(text).strip() == first.strip() else None)
            if rule:
                counts[rule] += 1
                continue
            current[i] = str(text)
            labels.append(_label(tasks[i], first, str(text), (writer.name, annotator, number, drawn[i].name), setting))
    return labels


def _revised(
    tasks: Mapping[int, Task], current: Mapping[int, str], drawn: Mapping[int, Principle], writer: Writer,
    place: tuple[int, int],
) -> dict[int, str | None]:  # fmt: skip
    """Criticise and revise the current answers, by the principles drawn."""
    asked = {i: (Turn("assistant", current[i]), Turn("user", drawn[i].critique)) for i in tasks}
    critiques = writer.write([Item(tasks[i], asked[i]) for i in tasks], *place, "critique")
    said = {i: text for i, text in zip(tasks, critiques, strict=True) if text is not None and text.strip()}
    items = [
        Item(tasks[i], (*asked[i], Turn("assistant", text), Turn("user", drawn[i].revision)))
        for i, text in said.items()
    ]
    revisions = dict(zip(said, writer.write(items, *place, "revision") if items else [], strict=True))
    return {i: revisions.get(i) for i in tasks}


def _draw(setting: Setting, task: Task, number: int) -> Principle:
    return rng(setting.seed, "label", "constitution", "principle", task.prompt, number).choice(
        setting.constitution.principles
    )


def _label(task: Task, first: str, revision: str, who: tuple[str, str, int, str], setting: Setting) -> Label:
    writer, annotator, number, principle = who
    return Label(
        prompt=task.prompt, a=first, b=revision, policy_a=writer, policy_b=f"{writer}, revision {number}: {principle}",
        round=setting.asked_in, answer="B", annotator=annotator, kind="constitution", first="A",
    )  # fmt: skip
