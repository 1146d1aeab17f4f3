"""Things about the data that are no error and must be said: once each, with counts where they recur."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Notes:
    """Sentences for the person at the keyboard, in the order in which they came up."""

    _said: dict[str, None] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def say(self, sentence: str) -> None:
        """Keep a sentence; the same one again says nothing new."""
        self._said[sentence] = None

    def count(self, what: str, number: int = 1) -> None:
        """Count a thing that recurs; its sentence is the number and `what`."""
        self._counts[what] += number

    def lines(self) -> list[str]:
        """Return all sentences, counts last. Text that cannot be encoded is shown with question marks."""
        found = [*self._said, *(f"{number} {what}" for what, number in self._counts.items())]
        return [sentence.encode("utf-8", "replace").decode() for sentence in found]
