"""Account for every row read: kept, dropped by a named filter, or set aside by a named rule."""

from collections import Counter
from dataclasses import dataclass, field

from rlhf.prepare.rows import BAD_ROW_RULES, BadRow

# Filters, in the order in which they are applied. A dropped row is not bad: it is not wanted.
FILTERS = (
    "duplicate",
    "short_chosen",
    "short_rejected",
    "long_chosen",
    "long_rejected",
    "over_max_pairs",
)


@dataclass(slots=True)
class Ledger:
    """Counts of what happened to each row. `set_aside` keeps the bad ones."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    set_aside: list[BadRow] = field(default_factory=list)

    def by_rule(self) -> dict[str, int]:
        """Count the rows set aside by each rule, all rules named."""
        found = Counter(row.rule for row in self.set_aside)
        return {rule: found[rule] for rule in BAD_ROW_RULES}

    def check(self) -> None:
        """Raise AssertionError unless the counts add up: nothing was silently lost."""
        accounted = self.kept + self.dropped.total() + len(self.set_aside)
        if accounted != self.read:
            raise AssertionError(f"{self.read} rows read, but {accounted} accounted for: {self}")

    def summary(self) -> str:
        """Sum up the counts in one line."""
        dropped = [f"{self.dropped[name]} {name}" for name in FILTERS if self.dropped[name]]
        aside = [f"{count} {rule}" for rule, count in self.by_rule().items() if count]
        return (
            f"{self.read} rows read, {self.kept} kept; dropped: {', '.join(dropped) or 'none'}; "
            f"set aside: {', '.join(aside) or 'none'}"
        )
