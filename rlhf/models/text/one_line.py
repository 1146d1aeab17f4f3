"""Turn whatever a library raises while it loads something into one line for the user."""

from collections.abc import Iterator
from contextlib import contextmanager

from rlhf.core.errors import Stopped, UserError

_LONGEST = 300  # characters of a reason; some libraries raise whole pages


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Run the block; anything that it raises becomes a UserError, "what (class: reason)".

    Files come from anywhere and loaders raise anything: OSError, KeyError, ImportError for an optional package,
    MemoryError, a strict config's own class, and tokenizers' panics, which are no Exception at all. What asks the
    process to stop passes through, as do errors that are one line already.
    """
    try:
        yield
    except (UserError, Stopped, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise UserError(f"{what} ({reason_of(error)})") from error


def reason_of(error: BaseException) -> str:
    """Name an error's class and message in one line."""
    text = " ".join(str(error).split())
    short = text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(" ", 1)[0] + " …"
    return f"{type(error).__name__}: {short}" if short else type(error).__name__
