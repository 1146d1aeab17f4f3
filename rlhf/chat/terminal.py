"""Run the dialogue in a terminal: lines in, commands, replies as they come."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from rlhf.chat.dialogue import Dialogue
from rlhf.core.errors import UserError
from rlhf.core.text import printable

HELP = """\
/score          reward and KL to SFT of the last replies
/history        what was said to and by each policy, turn by turn
/policies       who is here
/temperature X  sample at X from now on
/seed N         draw with seed N from now on
/reset          start a new dialogue
/help           this list
/quit           leave (or Ctrl-D)"""

Write = Callable[[str], None]


def converse(dialogue: Dialogue, lines: Iterable[str], write: Write) -> None:
    """Answer line after line until /quit or the end; an error in a line is shown, and the next is read."""
    write(f"{', '.join(dialogue.cast.adapters)}; /help lists the commands\n")
    for line in lines:
        text = line.strip()
        if text == "/quit":
            return
        try:
            if text.startswith("/"):
                write(command(dialogue, text) + "\n")
            elif text:
                answer(dialogue, text, write)
        except UserError as error:
            write(f"error: {printable(str(error))}\n")


def answer(dialogue: Dialogue, text: str, write: Write) -> None:
    """Every policy's reply, token by token, each on a line of its own, its control characters shown and not obeyed."""
    width = max(map(len, dialogue.cast.adapters))
    for name, pieces in dialogue.ask(text):
        write(f"{name:>{width}} |")
        for piece in pieces:
            write(printable(piece, lines=True).replace("\n", f"\n{'':>{width}} |"))
        write("\n")


def scores(dialogue: Dialogue) -> str:
    """Format a line for each of the last replies. Raises UserError if nothing was said yet."""
    found = dialogue.measured()
    if not found:
        raise UserError("/score: nothing was said yet")
    width = max(map(len, found))
    return "\n".join(
        f"{name:>{width}} | reward {_shown(one.reward)}, KL to SFT {_shown(one.kl)} nats a token, {one.tokens} tokens"
        for name, one in found.items()
    )


def history(dialogue: Dialogue) -> str:
    """Format the conversation with each policy, turn by turn. Raises UserError if nothing was said yet."""
    if not dialogue.turns:
        raise UserError("/history: nothing was said yet")
    told = [(name, dialogue.conversation(name)) for name in dialogue.cast.adapters if name in dialogue.turns]
    return "\n\n".join(f"--- {name}\n{printable(text, lines=True)}" for name, text in told)


def command(dialogue: Dialogue, line: str) -> str:
    """Carry out a command and return its answer. Raises UserError if there is none of that name, or its value is
    wrong."""
    name, _, value = line.partition(" ")
    if name in ("/temperature", "/seed"):
        return _set(dialogue, name, value.strip())
    if name == "/score":
        return scores(dialogue)
    if name == "/history":
        return history(dialogue)
    if name == "/policies":
        return "\n".join(dialogue.cast.adapters)
    if name == "/reset":
        dialogue.reset()
        return "a new dialogue"
    if name == "/help":
        return HELP
    raise UserError(f"{name}: no such command; /help lists them")


def _set(dialogue: Dialogue, name: str, value: str) -> str:
    try:
        if name == "/seed":
            seed = int(value)
            dialogue.settings = replace(dialogue.settings, seed=seed)
            return f"seed {seed}"
        temperature = float(value)
        if not 0 < temperature <= 10:
            raise ValueError
    except ValueError:
        allowed = "a whole number" if name == "/seed" else "a number above 0 and up to 10"
        raise UserError(f"{name}: found {value!r}; allowed: {allowed}") from None
    dialogue.settings = replace(dialogue.settings, temperature=temperature)
    return f"temperature {temperature:g}"


def _shown(value: float | None) -> str:
    return "unknown (not among the artifacts)" if value is None else f"{value:.3f}"
