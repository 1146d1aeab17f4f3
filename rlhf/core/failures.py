"""Say in one line why a command failed, whatever the exception: the reader's to put right, the machine's, or a bug."""

import contextlib
import errno
import os
import tempfile
import traceback
from collections.abc import Callable
from json import JSONDecodeError
from pathlib import Path

from rlhf.core.artifacts import refusal, write_text
from rlhf.core.errors import UserError
from rlhf.core.secrets import redacted
from rlhf.core.text import printable

LONGEST = 300  # characters of what a library says
SHOW = "RLHF_TRACEBACK"  # set to 1 it shows the whole traceback
_OURS = ("rlhf", "stages")
_MEMORY = (  # what torch and the libraries below it say; their types differ with the device
    "out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "unable to allocate",
    "alloc_failed", "failed to allocate",
)  # fmt: skip


def explain(error: BaseException) -> str | None:
    """Explain an error in one line; None where nobody but the project itself can have caused it: a bug."""
    for reason in (_denied, refusal, _memory, _package, _system, _unreadable):
        if (told := reason(error)) is not None:
            return told
    return None


def report(error: BaseException, stage: str, folder: Path) -> list[str]:
    """List the lines for standard error that end the command `stage`, without what is secret in them.

    The traceback of a bug is saved in `folder` (in the system's folder for temporary files where that cannot be
    written). RLHF_TRACEBACK=1 in the environment puts the whole of any error's traceback before the lines.
    """
    whole = redacted("".join(traceback.format_exception(error)))
    shown = whole.splitlines() if os.environ.get(SHOW, "") not in ("", "0") else []
    if isinstance(error, UserError):
        told = [f"error: {line}" for line in str(error).strip("\n").split("\n")]
    elif (reason := explain(error)) is not None:
        told = [f"error: {stage}: {reason}"]
    else:
        saved = _save(whole, stage, folder)
        told = [f"error: {stage}: this is a bug of the project, or a file of artifacts/ was edited: {_raised(error)}; "
                f"{saved}"]  # fmt: skip
    return [printable(redacted(line)) for line in (*shown, *told)]


def first_line(error: BaseException) -> str:
    """Give the first line of an error's text that says something; its type where there is none."""
    try:
        lines = [line.strip() for line in str(error).splitlines()]
    except Exception:  # whatever a library's own class does
        lines = []
    return next((printable(line)[:LONGEST] for line in lines if line), type(error).__name__)


def _denied(error: BaseException) -> str | None:
    """Name the file that may not be read or written, where the error knows it."""
    return _system(error) if isinstance(error, PermissionError) and _is_name(error.filename) else None


def _memory(error: BaseException) -> str | None:
    text = first_line(error).lower()
    small = "ppo.microbatch, sft.accumulate, reward.batch_tokens and evaluate.batch_tokens decide what it needs"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return f"the memory of this machine is used up; {small}"
    if isinstance(error, RuntimeError) and any(word in text for word in _MEMORY):
        where = "the GPU's memory" if "cuda" in text or "cublas" in text else "the memory of this machine"
        return f"{where} is used up ({first_line(error)}); {small}"
    return None


def _package(error: BaseException) -> str | None:
    if not isinstance(error, ImportError):
        return None
    name = (error.name or "").partition(".")[0]
    if name in _OURS:
        return None
    if isinstance(error, ModuleNotFoundError) and name:
        return f"the package {printable(name)!r} is not installed; `make venv` installs what the project needs, " + (
            f"`pip install {printable(name)}` this one"
        )
    return f"a package cannot be used: {first_line(error)}"


def _system(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or isinstance(error, UnicodeError):
        return None
    if error.errno is None:
        return first_line(error)
    names = [printable(os.fsdecode(name)) for name in (error.filename, error.filename2) if _is_name(name)]
    about = f"{' and '.join(names)}: " if names else ""
    advice = {
        errno.EMFILE: "; `ulimit -n` says how many files a process may have open",
        errno.EPIPE: ": a process that was written to has ended",
    }
    return f"{about}{os.strerror(error.errno)}{advice.get(error.errno, '')}"


def _unreadable(error: BaseException) -> str | None:
    kind = f"{type(error).__module__}.{type(error).__name__}"
    if isinstance(error, JSONDecodeError):
        return f"a file that should hold JSON does not ({first_line(error)}); `dvc status` tells which was changed"
    if isinstance(error, UnicodeDecodeError):
        return f"a file that should hold UTF-8 text does not ({first_line(error)})"
    if kind.endswith("SafetensorError"):
        return f"a safetensors file is broken ({first_line(error)}); `dvc status` tells which was changed"
    if isinstance(error, RecursionError) and _within(error, lambda file: "json" in file.parts or "ruamel" in str(file)):
        return "a file's values are nested too deeply to be read"
    return None


def _is_name(name: object) -> bool:
    return isinstance(name, str | bytes | os.PathLike)


def _within(error: BaseException, known: Callable[[Path], bool]) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(known(Path(frame.filename)) for frame in frames[-3:])


def _raised(error: BaseException) -> str:
    """Type, first line and place: the innermost of our own files, which is where whoever mends it looks first."""
    told = first_line(error)
    kind = type(error).__name__
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if set(Path(frame.filename).parts) & {*_OURS}]
    where = ""
    if ours:
        parts = Path(ours[-1].filename).parts
        top = max(parts.index(name) for name in _OURS if name in parts)
        where = f" ({'/'.join(parts[top:])}:{ours[-1].lineno})"
    return f"{kind}{'' if told == kind else f': {told}'}{where}"


def _save(whole: str, stage: str, folder: Path) -> str:
    name = f"{stage.replace('@', '_')}.txt"
    for place in (folder, Path(tempfile.gettempdir()) / "rlhf-tracebacks"):
        with contextlib.suppress(Exception):  # nothing here may hide the error itself
            write_text(place / name, printable(whole, lines=True))
            return f"the traceback is in {place / name}"
    return f"{SHOW}=1 shows the traceback"
