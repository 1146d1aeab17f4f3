"""Read pairs from the source that the parameters name."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.prepare.forms import Comparisons
from rlhf.prepare.hub import hub_rows
from rlhf.prepare.notes import Notes
from rlhf.prepare.params import DataParams
from rlhf.prepare.rankings import Ranking
from rlhf.prepare.readers import OOD_FILE, PROBES_FILE, find_files, read_rows
from rlhf.prepare.rows import BadRow, Comparison, Pair, RawRow
from rlhf.prepare.templates import HUMAN, RefusedError
from rlhf.prepare.written import Writer
from rlhf.synthetic import beliefs
from rlhf.synthetic.beliefs import Probe
from rlhf.synthetic.task import labelled_pairs, ood_prompts


@dataclass(slots=True)
class Source:
    """The rows of a source as comparisons, once. What iterating finds out besides is in `notes` and `rankings`."""

    data: DataParams
    seed: int
    notes: Notes = field(default_factory=Notes)
    rankings: list[Ranking] | None = None  # with their ties, which pairs no longer show; None where nothing is ranked

    def __iter__(self) -> Iterator[Pair | Comparison | BadRow]:
        """Yield every row of the source, as a comparison or as a bad row; nothing is left out. The synthetic task's are
        pairs already, made as dialogues.

        Raises:
            UserError: there is no such file, dataset or commit; the rows fit no form, or several.
        """
        if self.data.source == "synthetic":
            yield from _synthetic(self.data, self.seed)
            return
        made = Comparisons(_raw_rows(self.data, self.notes), self.data, self.notes)
        yield from made
        self.rankings = made.rankings or None


def _synthetic(data: DataParams, seed: int) -> Iterator[Pair]:
    for number, made in enumerate(labelled_pairs(data.synthetic, seed), start=1):
        turns, origin = made.prompt.count(HUMAN), f"synthetic:{number}"
        yield Pair(made.prompt, made.chosen, made.rejected, origin, made.kind, turns, made.probability)


def read_ood(data: DataParams, seed: int, writer: Writer) -> list[tuple[str, str]]:
    """(prompt, kind) from outside the distribution: made for the synthetic task, else the file ood.jsonl in a folder of
    preferences, rows {"prompt": ...} with an optional "kind", or of MT-bench's form, {"turns": [...], "category": ...},
    whose first turn is taken; none where there is no such file.

    Raises:
        UserError: a row of that file has no prompt, or one that the template cannot write.
    """
    if data.source == "synthetic":
        return ood_prompts(data.synthetic, seed)
    path = Path(data.path) / OOD_FILE
    if data.source != "files" or not path.is_file():
        return []
    found = []
    for number, row in iter_jsonl(path):
        turns = row.get("turns")
        prompt = row.get("prompt", turns[0] if isinstance(turns, list) and turns else None)
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(
                f'{path}:{number}: expected {{"prompt": text}} or {{"turns": [text]}}, found {prompt!r:.60}'
            )
        found.append((_asked(prompt, writer, f"{path}:{number}"), str(row.get("kind", row.get("category", "ood")))))
    return found


def read_probes(data: DataParams, writer: Writer) -> list[Probe]:
    """Read questions asked plainly and after a wrong belief: the file probes.jsonl in a folder of preferences, none
    where there is no such file. The synthetic task needs none: `evaluate` makes its own.

    Raises:
        UserError: a row of that file is not a probe, or the template cannot write it.
    """
    path = Path(data.path) / PROBES_FILE
    if data.source != "files" or not path.is_file():
        return []
    return [
        replace(one, plain=_asked(one.plain, writer, f"{path}"), leading=_asked(one.leading, writer, f"{path}"))
        for one in beliefs.read_probes(path)
    ]


def _asked(prompt: str, writer: Writer, origin: str) -> str:
    try:
        return writer.prompt(prompt).text
    except RefusedError as error:
        raise UserError(f"{origin}: {error} (rule {error.rule})") from error


def _raw_rows(data: DataParams, notes: Notes) -> Iterator[RawRow | BadRow]:
    if data.source == "hub":
        yield from hub_rows(data.hub)
        return
    files = find_files(Path(data.path), notes)
    for file in files:
        yield from read_rows(file, notes, alone=len(files) == 1)
