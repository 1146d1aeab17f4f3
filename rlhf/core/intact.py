"""Check that files are what the stage that made them wrote, by the hashes in provenance/.

DVC compares outputs with dvc.lock when it runs a stage; a stage run by hand has nobody who does, and a flipped byte in
an adapter is a policy like any other. The records in provenance/ are written by the stages themselves, so they hold
after `dvc repro`, in experiments, in studies and by hand alike.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import read_json, sha256_file
from rlhf.core.dag import ignored
from rlhf.core.errors import UserError
from rlhf.core.provenance import files_of

MADE = ("artifacts", "metrics", "plots")  # the folders that stages write into


@dataclass(frozen=True, slots=True)
class Written:
    """A file as a stage wrote it."""

    stage: str  # as dvc.yaml names it
    record: Path  # the provenance that says so
    sha256: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that is not what a stage wrote."""

    file: Path
    stage: str
    what: str  # completes "<file> ..."

    def __str__(self) -> str:
        return f"{self.file} {self.what}"


def check_read(paths: Iterable[Path], root: Path, *, reader: str) -> str | None:
    """Check what the stage `reader` reads; returns a line to show where some of it cannot be checked.

    `paths` are files and folders, relative to `root` as in dvc.yaml; only those below artifacts/, metrics/ and plots/
    that exist are looked at, and of a stage's own record nothing: it is about to be written anew.

    Raises:
        UserError: a file has other bytes than its stage wrote, is missing, or was added to a stage's folder.
    """
    ours = [path for path in paths if path.parts[:1] and path.parts[0] in MADE and (root / path).exists()]
    known, broken = read_records(root, leave_out=reader)
    found = list(faults(root, ours, known))
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise UserError(f"{found[0]}{more}; `dvc repro {found[0].stage}` makes it again")
    unknown = [path for path in ours if not any(_within(file, path) for file in known)]
    if unknown and broken:
        raise UserError(f"{broken[0]}; it says what {unknown[0]} must be: run that stage again, or take the file back")
    if unknown and known:  # where nothing has a record, nobody would learn anything from this line
        names = ", ".join(map(str, unknown))
        return f"not checked, since no record in provenance/ says what was written: {names}"
    return None


def read_records(root: Path, *, leave_out: str = "") -> tuple[dict[Path, Written], list[str]]:
    """Read which file was written by which stage, and what is wrong with records that cannot be read.

    leave_out: the stage whose record does not count.
    """
    known: dict[Path, Written] = {}
    broken: list[str] = []
    for path in sorted((root / "provenance").glob("*.json")):
        name = path.relative_to(root)
        if path.stem == leave_out.replace("@", "_"):
            continue
        try:
            record = read_json(path)
        except UserError as error:
            broken.append(str(error))
            continue
        if isinstance(record, Mapping) and isinstance(files := record.get("files"), Mapping):
            stage = str(record.get("stage", path.stem))
            known |= {Path(file): Written(stage, name, str(digest)) for file, digest in files.items()}
    return known, broken


def faults(root: Path, paths: Iterable[Path], known: Mapping[Path, Written]) -> Iterator[Fault]:
    """Yield what differs below `paths` from what is `known`, a file at a time, by name."""
    leave_out = ignored(root)
    for path in paths:
        recorded = {file: written for file, written in known.items() if _within(file, path)}
        here = {file.relative_to(root) for file in files_of(root / path)}
        for file in sorted(recorded.keys() | here):
            written = recorded.get(file)
            if written is None:
                maker = _maker(file, path, recorded)
                if maker is not None and not leave_out(file):
                    yield Fault(file, maker.stage, f"was not written by {maker.stage}: {maker.record} does not know it")
            elif file not in here:
                yield Fault(file, written.stage, f"is missing; {written.stage} wrote it ({written.record})")
            elif sha256_file(root / file) != written.sha256:
                what = f"is not what {written.stage} wrote: its SHA-256 is not the one in {written.record}"
                yield Fault(file, written.stage, what)


def _within(file: Path, path: Path) -> bool:
    return file == path or path in file.parents


def _maker(file: Path, path: Path, recorded: Mapping[Path, Written]) -> Written | None:
    """Find the stage that alone wrote the folder `path`; a folder that several share may hold other files."""
    makers = {written.record: written for written in recorded.values()}
    alone = len(makers) == 1 and len(path.parts) > 1 and file != path
    return next(iter(makers.values())) if alone and file.name != ".gitignore" else None  # DVC's, beside outputs
