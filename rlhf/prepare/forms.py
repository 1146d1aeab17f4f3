"""Turn the rows of a source into comparisons, by the form that they are in."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from rlhf.prepare.columns import ROLES_OF_COLUMNS
from rlhf.prepare.conversations import conversation_pair
from rlhf.prepare.dialogues import column_pair, hh_pair
from rlhf.prepare.finish import used_for
from rlhf.prepare.notes import Notes
from rlhf.prepare.params import DataParams
from rlhf.prepare.rankings import Ranking
from rlhf.prepare.read_grouped import rated_pairs, unpaired_pairs
from rlhf.prepare.read_rankings import ranking_pairs, read_ranking, read_rating
from rlhf.prepare.read_winner import winner_pairs
from rlhf.prepare.recognise import Reading, read_as, recognise
from rlhf.prepare.rows import BadRow, Comparison, RawRow, RuleBroken

Rows = Iterable[RawRow | BadRow]
_LOOKED_AT = 200  # rows from which the form and its columns are known


@dataclass(slots=True)
class Comparisons:
    """The comparisons of a source, once; iterating fills `rankings` where the form ranks several replies at once, and
    `notes`."""

    rows: Rows
    data: DataParams
    notes: Notes
    rankings: list[Ranking] = field(default_factory=list)
    reading: Reading | None = None

    def __iter__(self) -> Iterator[Comparison | BadRow]:
        """Yield every row as a comparison or a bad row; a ranking is as many rows as it holds preferences, and rows of
        one reply each are as many as there are pairs of them.

        Raises:
            UserError: the rows fit no form, or several.
        """
        rows = iter(self.rows)
        first = list(islice(rows, _LOOKED_AT))
        sample = [row for row in first if isinstance(row, RawRow)]
        if not sample:
            yield from (row for row in chain(first, rows) if isinstance(row, BadRow))
            return
        values, where = [row.values for row in sample], sample[0].origin
        if self.data.format == "auto":
            reading = recognise(values, self.data.columns, where)
            self.notes.say(f"data.format auto: took the rows for {reading.format}, because {reading.why}")
        else:
            reading = read_as(self.data.format, values, self.data.columns, where)
        self.reading = reading
        self._tell(reading, sample)
        yield from self._made(reading, chain(first, rows))

    def _made(self, reading: Reading, rows: Rows) -> Iterator[Comparison | BadRow]:
        name, columns = reading.format, reading.columns
        if name == "unpaired":
            yield from unpaired_pairs(rows, columns, self.notes)
        elif name == "winner":
            yield from winner_pairs(rows, columns, self.notes)
        elif name == "ratings" and columns.reply:
            yield from rated_pairs(rows, columns, self.notes)
        elif name in ("rankings", "ratings"):
            yield from self._ranked(rows, reading)
        else:
            one: Callable[[RawRow], Comparison] = {
                "hh": lambda row: hh_pair(row, columns),
                "pairs": lambda row: column_pair(row, columns),
            }.get(name, lambda row: conversation_pair(row, columns, self.notes))
            for row in rows:
                yield row if isinstance(row, BadRow) else _attempt(one, row)

    def _ranked(self, rows: Rows, reading: Reading) -> Iterator[Comparison | BadRow]:
        read = read_ranking if reading.format == "rankings" else read_rating
        for row in rows:
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                ranking = read(row, reading.columns, self.notes)
            except RuleBroken as broken:
                yield broken.bad_row(row)
                continue
            self.rankings.append(ranking)
            yield from ranking_pairs(row, ranking, reading.columns)

    def _tell(self, reading: Reading, sample: list[RawRow]) -> None:
        """Say which columns are read, which change the losses, and which are not used."""
        columns = reading.columns
        names = {role: columns.named(role) for role in ROLES_OF_COLUMNS}
        renamed = [f"{role}: {name!r}" for role, name in names.items() if name and name != role]
        if renamed:
            self.notes.say(f"columns: {', '.join(renamed)}")
        used_for(self.notes, columns)
        used = {name.split(".")[0] for name in names.values() if name} | {"kind"}
        present = dict.fromkeys(str(name) for row in sample for name in row.values)
        single = [name for name in ("weight", "margin") if name in present and name not in used]
        if single and reading.format in ("unpaired", "ratings"):
            self.notes.say(
                f"{' and '.join(map(repr, single))} belong to single replies here; the losses know weights and margins "
                "of pairs alone, so they are not used"
            )
        if idle := [name for name in present if name not in used]:
            self.notes.say(f"columns that are not used: {', '.join(idle)}")


def _attempt(make: Callable[[RawRow], Comparison], row: RawRow) -> Comparison | BadRow:
    try:
        return make(row)
    except RuleBroken as broken:
        return broken.bad_row(row)
