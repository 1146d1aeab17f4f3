"""Write files whole or not at all, in the same bytes every time.

Every writer goes to a temporary name on the same file system, is flushed to disk and renamed. A full disk, a kill or
an exception therefore leaves the previous file, or none.

Of several processes that share a run the first one writes; the others make the same and drop it here.
"""

import errno
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.core.errors import UserError
from rlhf.core.processes import current
from rlhf.core.text import json_safe, printable

if TYPE_CHECKING:
    from torch import Tensor

SIGNIFICANT_DIGITS = 6  # of floats in JSON: enough to compare runs, few enough to read
PAGES = (".md", ".html")  # what people open


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically. Raises UserError if the disk is full or the folder is not writable."""
    if not current().is_main:
        return
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with Unix line ends.

    Pages (.md, .html) hold no control characters: what a model or a file has said is shown by `printable`.
    """
    text = printable(text, lines=True) if path.suffix in PAGES else text
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically: sorted keys, two spaces, floats to six significant digits; NaN and infinity refused.

    Characters that would command a terminal stand as JSON's own escapes, halves of surrogate pairs too.
    """
    text = json.dumps(rounded(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, json_safe(text) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object a line, atomically; key order is kept, floats to six significant digits."""
    lines = (json.dumps(rounded(dict(row)), ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "".join(json_safe(line) + "\n" for line in lines))


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Write a stage's metrics.

    Raises:
        ValueError: a number is NaN or infinite: a metric that cannot be computed is None, never NaN.
    """
    for name, value in metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path}: metric {name} is {value}; use None where there is no number")
    write_json(path, dict(metrics))


def rounded(value: object) -> object:
    """Round every float of the data to six significant digits (so that 0.1 + 0.2 reads 0.3)."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError naming the file (and line) if it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise UserError(f"{path}: not JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: not JSON that can be read: nested too deeply") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line (`.gz` too). Raises UserError with file:line and the reason."""
    return [row for _, row in iter_jsonl(path)]


def iter_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line that is not blank. Raises UserError with file:line and the
    reason."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _object(path, number, line)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}:{number + 1}: the gzip stream is broken or cut off: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # UnicodeDecodeError is one too
        raise UserError(f"{path}:{number}: not a line of JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{path}:{number}: not a line of JSON that can be read: nested too deeply") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
    return row


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Open a temporary folder beside `path` that takes its place when the block ends well, and is removed if it does
    not."""
    if not current().is_main:
        with tempfile.TemporaryDirectory(prefix="rlhf-dropped-") as dropped:
            yield Path(dropped)
        return
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            sync_tree(temporary)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Write tensors as safetensors, atomically; equal tensors give equal bytes."""
    from safetensors.torch import save

    write_bytes(path, save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}))


def load_tensors(path: Path) -> dict[str, "Tensor"]:
    """Read safetensors. Raises UserError if the file is missing or broken."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def sha256_file(path: Path) -> str:
    """Hash a file's bytes: SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(path: Path, *, leave_out: Callable[[Path], bool] | None = None) -> str:
    """Hash a file, or a folder's relative names and bytes in sorted order: SHA-256 in hex.

    leave_out: files of a folder for which it is true do not count.
    """
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    digest = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        if leave_out is not None and leave_out(file):
            continue
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def _sweep(path: Path) -> None:
    """Remove the temporary files and folders that a kill has left beside `path`, which has one writer at a time."""
    ours = re.compile(re.escape(f".{path.name}.") + "[a-z0-9_]{8}")  # as tempfile names them
    for stale in path.parent.iterdir():
        if ours.fullmatch(stale.name) and stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        elif ours.fullmatch(stale.name):
            stale.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Flush every file, and give it the mode that this user's files have (some libraries write 0600)."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~_umask())
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EROFS, errno.EPERM)


class Refused(UserError):  # noqa: N818 - the system refused; what it names is no fault of ours
    """The operating system refused a write."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one line about `path`, the one that the reader knows."""
    try:
        yield
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        raise Refused(f"{path}: {reason}") from error


def refusal(error: BaseException) -> str | None:
    """Explain the operating system's refusal behind a failed write to the reader; None if it was something else.

    Libraries in Rust give the number as text only, "... (os error 28)"; torch gives none.
    """
    if isinstance(error, Refused):  # of a file in a temporary folder: the outer path is the one that means something
        return refusal(error.__cause__) if error.__cause__ else None
    number = error.errno if isinstance(error, OSError) else None
    try:
        text = str(error)
    except Exception:  # a library's own class may do anything
        text = ""
    if found := re.search(r"\(os error (\d+)\)", text):
        number = int(found[1])
    if number in _FULL or "PytorchStreamWriter failed writing" in text:
        return "the disk is full, or a quota or a limit on file sizes is reached; what was there before is intact"
    return f"not writable: {os.strerror(number)}" if number in _DENIED else None
