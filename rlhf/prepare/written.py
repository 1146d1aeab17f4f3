"""Write the comparisons that were read as pairs, by the run's template, and look after control text in them."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.models.text.control import SIGN, pattern, stripped
from rlhf.prepare.params import OnTurnMarker
from rlhf.prepare.rankings import Ranking
from rlhf.prepare.replies import same_reply, visible
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import BadRow, Comparison, Pair, Prompt
from rlhf.prepare.spellings import open_label, without_label
from rlhf.prepare.templates import ASSISTANT, Raw, RefusedError, Template, Written


@dataclass(frozen=True)
class Writer:
    """A template, and what is done with control text. `edge`: tokens that are taken off the ends of texts (start, end,
    padding); `control`: all that have a meaning of their own."""

    template: Template
    edge: tuple[str, ...]
    control: tuple[str, ...]
    on_turn_marker: OnTurnMarker
    foreign: tuple[str, ...] = ()  # control tokens of other tokenizers, which are text to this one

    def prompt(self, given: Prompt, counts: dict[str, int] | None = None) -> Written:
        """Write a prompt.

        Raises:
            RefusedError: it cannot be written.
        """
        if isinstance(given, str):
            written = self.template.prompt(self._clean(given, "prompt", counts))
            if counts is not None and not (written.labels or isinstance(self.template, Raw)) and open_label(given):
                counts["open_label"] = 1
            return written
        turns = tuple(Turn(turn.role, self._clean(turn.content, "prompt", counts)) for turn in given)
        if any(turn.role == "user" and turn.content.rstrip().endswith(ASSISTANT) for turn in turns):
            raise RefusedError("unclear_dialogue", "prompt: a user's turn is itself a whole dialogue written as text")
        return self.template.prompt(turns)

    def pair(self, given: Comparison, ledger: Ledger, known: Written | None = None) -> Pair | BadRow | None:
        """Write a comparison; None for one that is dropped. The ledger counts what was changed. `known`: its prompt,
        where that was written before.

        Raises:
            UserError: a reply holds a turn marker, and on_turn_marker is stop.
        """
        counts: dict[str, int] = {}
        try:
            prompt = known or self.prompt(given.prompt, counts)
            replies = [self._clean(text, "reply", counts) for text in (given.chosen, given.rejected)]
            replies = [self._unlabelled(text, counts) for text in replies]
            kept = [self._one_turn(text, prompt, given.origin, counts) for text in replies]
            if None in kept:
                ledger.dropped["turn_marker"] += 1
                return None
            said = [str(text) for text in kept]
            chosen, rejected = (self.template.reply(prompt, text) for text in said)
        except RefusedError as error:
            return _bad(given, error.rule, str(error))
        for name, text, written in (("chosen", said[0], chosen), ("rejected", said[1], rejected)):
            if not (visible(text) and written.strip()):
                return _bad(given, "empty_reply", f"{name}: the reply is empty but for control text")
        if same_reply(*said) or chosen == rejected:
            return _bad(given, "tie", "chosen and rejected are the same reply but for control text")
        ledger.changed.update(counts)
        for text in (*_texts(given.prompt), given.chosen, given.rejected):
            if found := set(pattern(self.foreign).findall(text)):
                ledger.changed["foreign_control_tokens"] += 1
                ledger.foreign.update(sorted(found))
        return Pair(
            prompt=prompt.text,
            chosen=chosen,
            rejected=rejected,
            origin=given.origin,
            kind=given.kind,
            turns=prompt.asked,
            weight=given.weight,
            annotator=given.annotator,
            margin=given.margin,
            conversation=prompt.turns,
        )

    def _clean(self, text: str, name: str, counts: dict[str, int] | None) -> str:
        counts = {} if counts is None else counts
        if SIGN in text:
            raise RefusedError("wrong_type", f"{name}: U+FDD0 is no character of a text (Unicode, section 23.7)")
        bare = stripped(text, self.edge)
        if bare != text:
            counts["stripped_control_tokens"] = counts.get("stripped_control_tokens", 0) + 1
        if pattern(self.control).search(bare):
            counts["control_tokens_in_text"] = counts.get("control_tokens_in_text", 0) + 1
        return bare

    def _unlabelled(self, reply: str, counts: dict[str, int]) -> str:
        if isinstance(self.template, Raw) or (bare := without_label(reply)) == reply:
            return reply
        counts["stripped_label"] = counts.get("stripped_label", 0) + 1
        return bare

    def _one_turn(self, reply: str, prompt: Written, origin: str, counts: dict[str, int]) -> str | None:
        """Return the reply up to where another turn begins; None where it is to be skipped for that."""
        found = marker_pattern(self.template.markers(prompt)).search(reply)
        if found is None:
            return reply
        if self.on_turn_marker == "stop":
            raise UserError(
                f"{origin}: a reply holds {found[0].strip()!r:.40}, where another turn begins; "
                "data.on_turn_marker=skip drops such pairs and counts them, cut ends the reply there"
            )
        if self.on_turn_marker == "skip":
            return None
        counts["cut_turn_marker"] = counts.get("cut_turn_marker", 0) + 1
        return reply[: found.start()].rstrip()


def write_all(rows: Iterable[Pair | Comparison | BadRow], writer: Writer, ledger: Ledger) -> Iterator[Pair | BadRow]:
    """Write every comparison; those that are dropped are counted as read."""
    for row in rows:
        written = writer.pair(row, ledger) if isinstance(row, Comparison) else row
        if written is None:
            ledger.read += 1
        else:
            yield written


def written_rankings(rankings: Iterable[Ranking], writer: Writer) -> Iterator[Ranking]:
    """Write the prompts of rankings; those that cannot be written are left out, as their pairs are."""
    for one in rankings:
        with suppress(RefusedError):
            yield replace(one, prompt=writer.prompt(one.prompt).text)


@cache
def marker_pattern(markers: tuple[str, ...]) -> re.Pattern[str]:
    """Compile what finds any of the markers: a name with a colon where a line begins (the reply itself begins within
    one), others anywhere."""
    if not markers:
        return re.compile(r"(?!)")
    names = sorted(dict.fromkeys(markers), key=lambda name: (-len(name), name))
    at_line = [_spaced(name) for name in names if re.fullmatch(r"\w[\w ]*:", name)]
    anywhere = [_spaced(name) for name in names if not re.fullmatch(r"\w[\w ]*:", name)]
    kinds = [rf"(?<=[\n\r])(?:#{{1,4}}[ \t]*|\*\*)?(?:{'|'.join(at_line)})"] if at_line else []
    return re.compile("|".join([*kinds, *anywhere]))


def _spaced(name: str) -> str:
    """Escape a marker, with any white space where it has some."""
    return r"\s+".join(map(re.escape, name.split()))


def _texts(prompt: Prompt) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]


def _bad(row: Comparison, rule: str, reason: str) -> BadRow:
    asked = row.prompt
    prompt = asked if isinstance(asked, str) else [{"role": turn.role, "content": turn.content} for turn in asked]
    return BadRow(row.origin, rule, reason, {"prompt": prompt, "chosen": row.chosen, "rejected": row.rejected})
