"""Account for every row read: kept, dropped by a named filter, or set aside by a named rule."""

from collections import Counter
from dataclasses import dataclass, field

from rlhf.prepare.rows import BAD_ROW_RULES, BadRow

# Filters, in the order in which they are applied. A dropped row is not bad: it is not wanted.
FILTERS = (
    "turn_marker",
    "duplicate",
    "short_chosen",
    "short_rejected",
    "long_chosen",
    "long_rejected",
    "over_max_pairs",
)
# What was done to texts that were kept, or found in them.
CHANGES = {
    "stripped_control_tokens": "texts had control tokens at their ends, which were taken off",
    "control_tokens_in_text": "texts hold control tokens, which are encoded as plain text",
    "cut_turn_marker": "replies were cut where another turn begins",
    "stripped_label": "replies began with the assistant's label, taken off, since the template writes its own",
    "open_label": "prompts end in an open label of nobody known (as 'Agent:') and were written as one turn; where they "
    "are whole dialogues, set data.template to raw",
    "foreign_control_tokens": "texts hold control tokens of other tokenizers, which are text to this one",
}

_SHOWN = 3  # control tokens of other tokenizers that are named


@dataclass(slots=True)
class Ledger:
    """Counts of what happened to each row. `set_aside` keeps the bad ones."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)  # by the names of CHANGES; the rows count elsewhere too
    foreign: Counter[str] = field(default_factory=Counter)  # control tokens of other tokenizers, by name
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
        dropped = [f"{self.dropped[name]} {name}" for name in (*FILTERS, "held_out_tie") if self.dropped[name]]
        aside = [f"{count} {rule}" for rule, count in self.by_rule().items() if count]
        changed = [f"; {self.changed[name]} {meaning}" for name, meaning in CHANGES.items() if self.changed[name]]
        if self.foreign:
            shown = ", ".join(name for name, _ in self.foreign.most_common(_SHOWN))
            changed.append(f" ({shown}): where an end or a turn was meant, take them out or give the turns apart")
        return (
            f"{self.read} rows read, {self.kept} kept; dropped: {', '.join(dropped) or 'none'}; "
            f"set aside: {', '.join(aside) or 'none'}{''.join(changed)}"
        )
