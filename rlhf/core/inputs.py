"""List the files of a folder that a user fills, and leave none out without a word."""

from pathlib import Path

from rlhf.core.errors import UserError

BYSTANDERS = ("readme.md", "readme.txt", "readme", "thumbs.db", "desktop.ini")  # hidden files are some too


def input_files(path: Path, endings: tuple[str, ...], *, key: str) -> list[Path]:
    """List the file at `path`, or those in the folder `path`, sorted by name; an empty folder has none.

    An ending may be in capitals. Hidden files, read-me files, those that DVC keeps beside data, and what spreadsheets
    and systems leave (~$ann.xlsx, Thumbs.db) do not count.

    Args:
        path: what the user has named.
        endings: of the files that can be read, as (".jsonl", ".jsonl.gz").
        key: the parameter that holds `path`, for errors.

    Raises:
        UserError: nothing is there, or something in the folder that cannot be read: it would go unnoticed.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{key}: {path}: no such file or folder")
    items = sorted(item for item in path.iterdir() if not _bystander(item))
    for item in items:
        if not item.is_file():
            what = "a folder" if item.is_dir() else "a link that leads nowhere"
            raise UserError(f"{key}: {item}: found {what}; files that end in {_or(endings)} lie directly in {path}")
        if not item.name.lower().endswith(endings):
            raise UserError(
                f"{key}: {item}: not one that is read; save it so that it ends in {_or(endings)}, or move it"
            )
    return items


def _bystander(item: Path) -> bool:
    name = item.name.lower()
    about = name.partition(".")[0] in ("license", "licence", "copying", "notice", "citation", "readme")
    return name.startswith((".", "~$")) or name.endswith((".dvc", "~")) or about or name in (*BYSTANDERS, "__pycache__")


def _or(endings: tuple[str, ...]) -> str:
    return " or ".join(endings)
