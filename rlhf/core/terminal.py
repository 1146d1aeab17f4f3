"""Make standard output and standard error safe to write to: for whoever reads them, and where nobody does.

Data, replies of models, file names and messages of libraries reach the terminal in many places. All of them pass here,
so that none can move the cursor, retitle the window or reorder a line.
"""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from rlhf.core.text import printable

_MOVES = re.compile(r"(?:\n|\x1b\[A)+")  # all that a progress bar below another one writes to get there and back
_GONE = (errno.EPIPE, errno.EIO)  # whoever read has ended; the terminal was closed


class SafeStream(io.TextIOBase):
    """A text stream that shows control characters as escapes before they reach `stream`.

    A carriage return passes at the very beginning of what is written: progress bars redraw their line so. Where the
    reader has gone, what is written is dropped and the work goes on.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, made safe. Returns the number of its characters."""
        shown = text if _MOVES.fullmatch(text) else _shown(text)
        with self._until_gone():
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:  # a terminal of another alphabet
                self._stream.write(shown.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        with self._until_gone():
            self._stream.flush()

    def close(self) -> None:
        """Leave the stream open: it belongs to the process."""

    def isatty(self) -> bool:
        """Say whether the stream is a terminal."""
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return int(self._stream.fileno())

    def writable(self) -> bool:
        """Say yes."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the stream's encoding."""
        return str(self._stream.encoding or "utf-8")

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Return what the stream does with characters that its encoding has not."""
        errors: str | None = self._stream.errors
        return errors

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would go past this
            raise AttributeError(name)
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _until_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _GONE:
                raise
            _point_at_nothing(self._stream)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Make both standard streams safe within the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        stream if stream is None or isinstance(stream, SafeStream) else cast(TextIO, SafeStream(stream))
        for stream in before
    )
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _shown(text: str) -> str:
    body = text[1:] if text[:1] == "\r" and text[:2] != "\r\n" else text
    return text[: len(text) - len(body)] + printable(body, lines=True)


def _point_at_nothing(stream: Any) -> None:
    """Let what the stream still holds go nowhere, so that the interpreter's end does not complain of it."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
