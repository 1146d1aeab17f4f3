"""Bring files into UTF-8, and name those whose content is not what their name says."""

import codecs
import io
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.prepare.notes import Notes

_HEAD = 4096  # bytes from which encoding and kind are known
_MARKS = (  # byte-order marks, the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (  # how other kinds of file begin
    (b"PK\x03\x04", "a zip file, as .xlsx and .ods are: save the sheet as 'CSV UTF-8', or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls): save the sheet as 'CSV UTF-8'"),
    (b"PAR1", "a Parquet file: let its name end in .parquet"),
    (b"BZh", "compressed by bzip2: unpack it, or use gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it, or use gzip"),
    (b"\xfd7zXZ", "compressed by xz: unpack it, or use gzip"),
    (b"ARROW1", "an Arrow file: save it as Parquet"),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the data: run git lfs pull"),
    (b"<!DOCTYPE", "a page of HTML, no data"),
    (b"<html", "a page of HTML, no data"),
)  # fmt: skip


class CannotDecode(Exception):  # noqa: N818 - turned into a bad row by the readers
    """The file is in another encoding than its beginning says, or is cut off within a character."""


def checked_file(path: Path, file: BufferedIOBase) -> BufferedIOBase:
    """Return the file, at its beginning.

    Raises:
        UserError: it is of another kind than its name says.
    """
    head = file.read(_HEAD)
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        raise UserError(f"{path}: compressed by gzip: let its name end in .gz")
    for start, what in _KINDS:
        if head.startswith(start):
            raise UserError(f"{path}: {what}")
    return file


def as_utf8(path: Path, file: BufferedIOBase, notes: Notes) -> BufferedIOBase:
    """Return the same file in UTF-8 without a byte-order mark, where it is UTF-16 or UTF-32, and with line feeds, where
    its lines end in carriage returns alone (as Excel's 'CSV (Macintosh)'); with a note.

    Raises:
        CannotDecode: it begins as UTF-16 or UTF-32 and cannot be read as such.
    """
    head = file.read(_HEAD)
    file.seek(0)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None) or _without_mark(head)
    if encoding is None:
        if head.startswith(codecs.BOM_UTF8):
            file.seek(len(codecs.BOM_UTF8))
        if b"\n" in head or b"\r" not in head.rstrip(b"\r"):
            return file
        notes.say(f"{path}: lines end in carriage returns alone")
        return io.BytesIO(file.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    try:
        text = file.read().decode(encoding)
    except UnicodeDecodeError as error:
        raise CannotDecode(f"{encoding.upper()} at its beginning, but not at byte {error.start}") from error
    notes.say(f"{path}: read as {encoding.upper()}")
    return io.BytesIO(text.removeprefix("\ufeff").encode("utf-8", "surrogatepass"))


def _without_mark(head: bytes) -> str | None:
    """UTF-16 without a mark: text in Latin letters has every other byte 0."""
    if len(head) < 4 or b"\0" not in head:
        return None
    even, odd = head[::2].count(0) / len(head[::2]), head[1::2].count(0) / len(head[1::2])
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.1 else None


def text_lines(file: BufferedIOBase) -> Iterator[str]:
    """Yield decoded lines. Bytes that are not UTF-8 pass as lone surrogates, so that one bad row does not end the
    file."""
    for line in file:
        yield line.decode("utf-8", "surrogateescape")
