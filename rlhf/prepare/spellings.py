"""Recognise a dialogue that is written out as text, in any of the usual spellings, and take it apart into turns.

"\\n\\nHuman: Hi\\n\\nAssistant:", "User: Hi\\nAssistant: ", "### Human: Hi\\n### Assistant:", "USER: Hi ASSISTANT:",
"Q: Hi\\nA:"
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.core.conversation import Turn

# Who asks and who answers, as they are named together. Case counts: "a:" is no answer.
_COUPLES = (
    (("Human", "HUMAN", "human"), ("Assistant", "ASSISTANT", "assistant", "AI", "Bot", "bot")),
    (("User", "USER", "user", "Prompter", "prompter"), ("Assistant", "ASSISTANT", "assistant", "AI", "Bot", "bot")),
    (("Instruction",), ("Response",)),
    (("Question", "Q"), ("Answer", "A")),
)
_ASKER, _ANSWERER = r"(?:USER|User|HUMAN|Human)", r"(?:ASSISTANT|Assistant)"
_ENDS_OPEN, _BEGINS = re.compile(rf"[ \t]({_ANSWERER}):\Z"), re.compile(rf"(?:\A|[ \t\n])({_ASKER}):")
_SYSTEM = ("System", "SYSTEM", "system")
# How the chat templates of well-known families begin, whatever the tokenizer at hand makes of it.
_WRITTEN = re.compile(
    r"\s*(?:(?:<s>|<bos>|<\|begin_of_text\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>)\s*)?"
    r"(GPT4 Correct User:|<\|prompter\|>|<\|start_of_role\|>|<\|start\|>|<\|START_OF_TURN_TOKEN\|>"
    r"|\[INST\]|<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|(?:user|system|assistant)\|>"
    r"|<\uff5cUser\uff5c>)"
)
_ANSWERERS = ("Assistant", "ASSISTANT", "assistant")
_LABELLED = re.compile(r"^[ \t]*([^\W\d][\w ;]{0,24})[ \t]*[:\uff1a]", re.MULTILINE)
_CHATTY = 3  # of the couples: a question with its answer may be an example within one prompt


@dataclass(frozen=True)
class Spelled:
    """A dialogue as turns, and the names of its turns. `unclear`: why it cannot be answered as it stands, or taken
    apart for sure; None where it can."""

    turns: tuple[Turn, ...]
    labels: tuple[str, ...]
    unclear: str | None = None


def spelled(text: str) -> Spelled | None:
    """Take a dialogue apart; None where the text is none, but something that is asked.

    A dialogue begins with a turn of the one who asks, or ends with the open turn of the one who answers (what stands
    before its first turn is the system's). A question alone is a dialogue only as "Human: ...", which the usual form
    would write a second time.
    """
    if form := _WRITTEN.match(text):
        reason = (
            f"it begins with {form[1]!r}, as a chat template writes it; give the turns apart, or set data.template to "
            "raw"
        )
        return Spelled((), (), reason)
    found = _in_one_line(text)
    for number, (askers, answerers) in enumerate(_COUPLES):
        found = found or _split(text, askers, answerers, chatty=number < _CHATTY)
    return found


def label_pattern(labels: Sequence[str]) -> re.Pattern[str]:
    """Compile what finds any of the labels where a turn may begin: at the start of a line."""
    names = "|".join(map(re.escape, sorted(labels, key=lambda name: (-len(name), name))))
    return re.compile(
        rf"(?:\A|(?<=[\n\r]))[ \t]*(?:#{{1,4}}[ \t]*|\*\*|<\|?|\[)?({names})(?:\|?>|\])?(?:\*\*)?"
        r"[ \t]*[:\uff1a](?:\*\*)?"
    )


def _split(text: str, askers: tuple[str, ...], answerers: tuple[str, ...], *, chatty: bool) -> Spelled | None:
    marks = list(label_pattern((*askers, *answerers, *_SYSTEM)).finditer(text))
    asked = [mark[1] for mark in marks if mark[1] in askers]
    if not asked:
        return None
    opened = marks[-1][1] in answerers and not text[marks[-1].end() :].strip()
    before = text[: marks[0].start()].strip()
    answered = any(mark[1] in answerers for mark in marks)
    if not opened and (before or not chatty or not (answered or asked[0] == "Human")):
        return None
    turns = [Turn("system", before)] if before else []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=True):
        role = "user" if mark[1] in askers else "assistant" if mark[1] in answerers else "system"
        turns.append(Turn(role, text[mark.end() : end].strip()))
    if opened:
        turns.pop()
    labels = tuple(dict.fromkeys(mark[1] for mark in marks))
    if turns[-1].role == "assistant":
        return Spelled(tuple(turns), labels, "the dialogue in it ends within an assistant's turn that has begun")
    return Spelled(tuple(turns), labels)


def open_label(text: str) -> str | None:
    """Return the label at the end of labelled lines, as of "Customer: Hi\\nAgent:"; None where there is none."""
    labels = _LABELLED.findall(text)
    found = _LABELLED.fullmatch(text.rstrip().splitlines()[-1]) if text.strip() else None
    return found[1] if found and len(set(labels)) > 1 else None


def without_label(reply: str) -> str:
    """Take the assistant's label off the beginning of a reply, where a template is about to write its own."""
    found = label_pattern(_ANSWERERS).match(reply.lstrip())
    return reply.lstrip()[found.end() :] if found else reply


def _in_one_line(text: str) -> Spelled | None:
    """Recognise a turn whose label stands in the text once, and the assistant's at its end, on one line; what stands
    before is the system's."""
    bare = text.strip()
    end, start = _ENDS_OPEN.search(bare), _BEGINS.search(bare)
    if end is None or start is None or start.end() > end.start():
        return None
    before, asked = bare[: start.start()].strip(), bare[start.end() : end.start()].strip()
    if not asked or not re.search(r"\w", bare[: end.start()].rpartition("\n")[2]):
        return None  # the last label begins a line
    unclear = None
    if re.search(rf"\b(?:{_ASKER}|{_ANSWERER}):", f"{before} {asked}"):
        unclear = "the turns of the dialogue in it stand on one line, and could be taken apart in more than one way"
    system = (Turn("system", before),) if before else ()
    return Spelled((*system, Turn("user", asked)), (start[1], end[1]), unclear)
