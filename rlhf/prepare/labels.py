"""Read answers to the project's own questions as pairs, one a question, with what the annotators say together as its
target."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf.core.artifacts import iter_jsonl, read_json
from rlhf.core.conversation import labelled
from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.labels.combine import Combined, Preference, combine
from rlhf.labels.read import Labels, read_labels
from rlhf.labels.record import Label, Question
from rlhf.models.text.control import unsigned
from rlhf.prepare.accept import accepted
from rlhf.prepare.label_metrics import Answers, answers_of
from rlhf.prepare.params import DataParams, LabelParams
from rlhf.prepare.replies import check_reply, check_text
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import BadRow, Comparison, Pair, RawRow, RuleBroken
from rlhf.prepare.templates import Written
from rlhf.prepare.written import Writer

ASKED = "asked"  # a folder beside the answers; where it lists questions, answers to others do not count
VERDICT, VERDICTS = "labels_constitution_verdict", ("helps", "unclear", "harm")
_BESIDE = (".md", ".yaml", ".yml", ".broken", ".csv", ".dvc")  # what lies beside answers and holds none


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pairs of the questions that were answered, before the filters by length; what was counted on the way."""

    pairs: list[Pair]
    ledger: Ledger
    answers: Answers
    notes: list[str]

    def said(self) -> list[str]:
        """Return the notes, and what became of the questions, once the filters are done."""
        return [*self.notes, f"data.labels: questions: {self.ledger.summary()}"]


def labelled_pairs(data: DataParams, source: Sequence[Pair], writer: Writer) -> Labelled | None:
    """Read `data.labels`; None where they are not asked for.

    A question whose prompt is one of the source's has that prompt, to the last token, so that both fall into one split.
    A question on which nobody is ahead is a pair with the target one half, reply A as its chosen one.

    Raises:
        UserError: as `read_labels`; a pair that breaks a rule of rows where `data.on_bad_row` is stop; a constitution
            that was found to do harm is among the annotators.
    """
    params = data.labels
    if not params.use:
        return None
    found = read_labels(Path(params.path), asked=_asked(Path(params.path)))
    kept, left_out = _of_this_run(found, params)
    unjudged = _judged_constitutions(Path(params.path), kept)
    combined, known, ledger = combine(kept), _known(source), Ledger()
    rows = _rows(combined, kept, found.places, known, writer, ledger=ledger)
    pairs = list(accepted(rows, ledger, data))
    prompts = {label.prompt: known[label.prompt].prompt for label in kept if label.prompt in known}
    answers = answers_of(kept, combined, found.left_out | left_out, prompts, gold=data.source == "synthetic")
    notes = [f"data.labels: {found.summary()}", *_unread(Path(params.path)), *unjudged]
    return Labelled(pairs, ledger, answers, notes)


def _of_this_run(found: Labels, params: LabelParams) -> tuple[list[Label], dict[str, int]]:
    """Leave out answers of other kinds and later rounds, and count them."""
    ours = [label for label in found.answers if label.kind in params.kinds]
    kept = [label for label in ours if label.round <= params.round]
    return kept, {"other_kind": len(found.answers) - len(ours), "later_round": len(ours) - len(kept)}


def _judged_constitutions(path: Path, kept: Sequence[Label]) -> list[str]:
    """Heed the verdicts that `label constitution` has left beside the answers, and say of which constitution there is
    none.

    Raises:
        UserError: one does harm: its first answers are preferred to their revisions.
    """
    folder = path if path.is_dir() else path.parent
    notes = []
    for name in sorted({label.annotator for label in kept if label.kind == "constitution"}):
        file = folder / f"constitution-{name}.json"
        verdict = _verdict(file) if file.is_file() else None
        if verdict == "harm":
            raise UserError(
                f"{file}: the verdict is harm: first answers are preferred to the constitution's revisions, and "
                f"{file.with_suffix('.jsonl').name} says the opposite; move both out of the folder, or leave "
                "constitution out of data.labels.kinds"
            )
        if verdict is None:
            notes.append(f"data.labels: constitution-{name}: nobody has judged whether its revisions are better")
    return notes


def _verdict(file: Path) -> str:
    """Read what `label constitution` found of a constitution: one of VERDICTS.

    Raises:
        UserError: the file says nothing of the kind.
    """
    found = read_json(file)
    verdict = found.get(VERDICT) if isinstance(found, dict) else None
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        said = f"found {json.dumps(verdict)[:40]}" if isinstance(found, dict) else f"found no object but {found!r:.40}"
        raise UserError(
            f"{file}: {VERDICT} must be one of {', '.join(VERDICTS)}, as `label constitution` writes it; {said}: let "
            "it judge again, or move the file out of the folder"
        )
    return verdict


def _asked(path: Path) -> set[str] | None:
    """Read which questions were asked, from the folder `asked` beside the answers; None where nothing says so."""
    folder = (path if path.is_dir() else path.parent) / ASKED
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not files:
        return None
    return {_question(row, f"{file}:{number}").id for file in files for number, row in iter_jsonl(file)}


def _question(row: dict[str, object], where: str) -> Question:
    known = {name: row[name] for name in Question.model_fields if name in row}
    try:
        return check(Question, known, where=where)
    except UserError as error:  # one problem is enough, and a profile has no part in it
        raise UserError(str(error).split("\n")[0].replace(" (null takes the profile's)", "")[:400]) from None


def _unread(path: Path) -> list[str]:
    """Say which files beside the answers may hold some and are not read."""
    items = sorted(path.iterdir()) if path.is_dir() else []
    verdicts = {one.with_suffix(".json").name for one in items if one.suffix == ".jsonl"}
    left = [one.name for one in items if one.is_file() and one.suffix != ".jsonl" and one.name not in verdicts]
    left = [name for name in left if not name.startswith(".") and not name.lower().endswith(_BESIDE)]
    return [f"data.labels.path: files that are not read: {', '.join(left[:10])}"] if left else []


def _known(source: Sequence[Pair]) -> dict[str, Pair]:
    """Find a pair by its prompt, as models read it and as people are shown it."""
    found: dict[str, Pair] = {}
    for pair in source:
        turns = [labelled(pair.conversation)] if pair.conversation else []
        for form in (pair.prompt, unsigned(pair.prompt), *turns):
            found.setdefault(form, pair)
    return found


def _rows(
    combined: Combined,
    answers: Sequence[Label],
    places: Mapping[str, str],
    known: Mapping[str, Pair],
    writer: Writer,
    *,
    ledger: Ledger,
) -> Iterator[Pair | BadRow]:
    kinds: dict[str, set[str]] = {}
    for label in answers:
        kinds.setdefault(label.question.id, set()).add(label.kind)
    for one in combined.preferences:
        name = one.question.id
        row = _row(one, places[name], known.get(one.question.prompt), writer, ledger)
        if row is None:
            ledger.read += 1
        elif isinstance(row, Pair):
            by = kinds[name]
            yield replace(row, labelled_by=next(iter(by)) if len(by) == 1 else "mixed")
        else:
            yield row


def _row(one: Preference, origin: str, known: Pair | None, writer: Writer, ledger: Ledger) -> Pair | BadRow | None:
    asked, flipped = one.question, one.winner == "B"
    try:
        check_text("prompt", asked.prompt)
        replies = check_reply("a", asked.a), check_reply("b", asked.b)
    except RuleBroken as broken:
        return broken.bad_row(RawRow(origin, asked.model_dump()))
    chosen, rejected = replies[::-1] if flipped else replies
    given = Comparison(asked.prompt, chosen, rejected, origin, known.kind if known else None)
    try:
        written = Written(known.prompt, known.conversation, asked=known.turns) if known else None
        pair = writer.pair(given, ledger, written)
    except UserError as error:
        raise UserError(f"data.labels: {error}") from None
    if not isinstance(pair, Pair):
        return pair
    return replace(pair, target=1 - one.target if flipped else one.target)
