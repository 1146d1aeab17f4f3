"""Check the files of a run where they lie: against dvc.lock, against provenance/, and DVC's own copies of them.

Three witnesses, none of which knows of the others. dvc.lock has the MD5 of every output; provenance/ the SHA-256 of
every file; an object of DVC's cache has its MD5 for a name, which DVC does not look at again when it restores it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import read_json
from rlhf.core.dag import ignored
from rlhf.core.dvc_hash import file_md5, file_md5s, folder_md5
from rlhf.core.errors import UserError
from rlhf.core.intact import MADE, Written, read_records
from rlhf.core.provenance import files_of
from rlhf.runs.cache import Cache, find_cache
from rlhf.runs.lock import FOLDER, Item, Lock, made_inside, overlaps, parse_lock
from rlhf.verify.committed import LOCK

KEPT = (*MADE, "provenance")


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that is not what it should be."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class AtRest:
    """What was looked at, and what is wrong with it."""

    outputs: int
    files: int
    objects: int
    problems: list[Problem]


def check_at_rest(root: Path, *, whole_cache: bool = False) -> AtRest:
    """Check every output, every record and every object of the cache that dvc.lock refers to.

    whole_cache: every object that is in the cache, of other runs as well.

    Raises:
        UserError: there is no dvc.lock, or it cannot be read.
    """
    if not (root / LOCK).is_file():
        raise UserError(f"{root / LOCK}: no such file; `dvc repro` writes it")
    lock = parse_lock((root / LOCK).read_text(encoding="utf-8"), LOCK)
    known, broken = read_records(root)
    cache, files = find_cache(root), _Files(root, known)
    problems = [Problem(*_split(one)) for one in broken]
    for stage in lock.values():
        for item in stage.outs.values():
            problems += files.check(stage.name, item, cache)
    problems += files.records(lock)
    problems += _strays(root, lock)
    problems += _lineage(root, known)
    objects, damaged = cache.check(lock, whole=whole_cache)
    problems += [Problem(str(path), what) for path, what in damaged]
    outputs = sum(len(stage.outs) for stage in lock.values())
    return AtRest(outputs, files.count, objects, problems)


def report(found: AtRest) -> str:
    """Say what was found; the first line stands alone."""
    looked = f"{found.outputs} outputs ({found.files} files) and {found.objects} objects of the cache"
    if not found.problems:
        return f"verify: whole: {looked} are as dvc.lock and provenance/ record them"
    lines = [f"  {one.where} {one.what}" for one in found.problems]
    return "\n".join([f"verify: not whole: {len(found.problems)} of {looked}:", *lines])


class _Files:
    """The files of a project's outputs, each hashed once."""

    def __init__(self, root: Path, known: Mapping[Path, Written]) -> None:
        self._root, self._known, self._leave_out = root, known, ignored(root)
        self._wrong: set[Path] = set()
        self.count = 0

    def check(self, stage: str, item: Item, cache: Cache) -> Iterator[Problem]:
        """Compare one output with dvc.lock, and name the files in it that differ."""
        where = self._root / item.path
        if not where.exists():
            yield Problem(str(item.path), f"is missing; {stage} wrote it (`dvc checkout`, `dvc pull` or `dvc repro`)")
            self._wrong |= {file for file in self._known if overlaps(file, [item.path])}
            return
        if where.is_dir() != item.md5.endswith(FOLDER):
            yield Problem(str(item.path), "is a folder, and dvc.lock has a file" if where.is_dir() else "is no folder")
            return
        if where.is_file():
            yield from self._file(stage, item)
            return
        here = file_md5s(where, leave_out=lambda file: self._leave_out(file.relative_to(self._root)))
        self.count += len(here)
        if folder_md5(here) != item.md5:
            yield from self._folder(stage, item, here, cache.listing(item.md5))

    def _file(self, stage: str, item: Item) -> Iterator[Problem]:
        self.count += 1
        path = self._root / item.path
        if file_md5(path) == item.md5:
            return
        size = path.stat().st_size
        cut = f"cut to {size:,} of {item.size:,} bytes: " if size < item.size else ""
        yield Problem(str(item.path), f"{cut}{self._judge(item.path, stage)}")

    def _folder(
        self, stage: str, item: Item, here: Mapping[str, str], listed: Mapping[str, str] | None
    ) -> Iterator[Problem]:
        """Name the files of a folder: by DVC's own listing where the cache has it, else by provenance."""
        if listed is not None:
            for name in sorted({*here, *listed}):
                if name not in listed:
                    yield self._extra(item.path / name, stage)
                elif name not in here:
                    yield self._missing(item.path / name, stage)
                elif here[name] != listed[name]:
                    yield Problem(str(item.path / name), self._judge(item.path / name, stage))
            return
        recorded = {file for file in self._known if item.path in file.parents}
        files = {item.path / name for name in here}
        found = [self._extra(file, stage) for file in sorted(files - recorded) if recorded]
        found += [self._missing(file, stage) for file in sorted(recorded - files)]
        found += [Problem(str(f), self._judge(f, stage)) for f in sorted(recorded & files) if not self._as_recorded(f)]
        whole = Problem(str(item.path), self._judge(item.path, stage))
        yield from found or [whole]

    def records(self, lock: Lock) -> Iterator[Problem]:
        """Name files that dvc.lock and provenance do not agree about, where the file is as dvc.lock has it."""
        made = made_inside(lock)
        for file, written in sorted(self._known.items()):
            there = (self._root / file).is_file() and written.record not in self._wrong
            if there and file not in self._wrong and overlaps(file, made) and not self._as_recorded(file):
                yield Problem(str(file), f"is as dvc.lock has it, not as {written.record} does: one of them is wrong")

    def _judge(self, path: Path, stage: str) -> str:
        """Say of a file that is not what dvc.lock has whether its stage's record knows it better."""
        self._wrong.add(path)
        inside = [file for file in self._known if file == path or path in file.parents]
        if inside and all(self._as_recorded(file) for file in inside):
            return f"was made again since: {self._known[inside[0]].record} knows it, dvc.lock does not (`dvc repro`)"
        return f"is not what {stage} wrote"

    def _as_recorded(self, file: Path) -> bool:
        from rlhf.core.artifacts import sha256_file

        return (self._root / file).is_file() and sha256_file(self._root / file) == self._known[file].sha256

    def _extra(self, file: Path, stage: str) -> Problem:
        self._wrong.add(file)
        return Problem(str(file), f"was not written by {stage}")

    def _missing(self, file: Path, stage: str) -> Problem:
        self._wrong.add(file)
        return Problem(str(file), f"is missing; {stage} wrote it")


def _strays(root: Path, lock: Lock) -> Iterator[Problem]:
    """Name files in the folders of outputs that no stage writes."""
    made, leave_out = made_inside(lock), ignored(root)
    for folder in KEPT:
        for file in files_of(root / folder):
            name = file.relative_to(root)
            inside = any(name == out or out in name.parents for out in made)
            if not inside and name.name != ".gitignore" and not leave_out(name):
                yield Problem(str(name), "was written by no stage that dvc.lock knows")


def _lineage(root: Path, known: Mapping[Path, Written]) -> Iterator[Problem]:
    """Name outputs that were made from something else than what its own stage records."""
    outputs: dict[str, str] = {}
    records = {}
    for record in sorted({written.record for written in known.values()}):
        records[record] = read_json(root / record)
        outputs |= records[record].get("outputs", {})
    for record, content in records.items():
        for name, digest in content.get("inputs", {}).items():
            if name in outputs and outputs[name] != digest:
                stage = content.get("stage", record.stem)
                yield Problem(str(record), f"says that {stage} was made from another {name} than the one that is here")


def _split(line: str) -> tuple[str, str]:
    where, _, what = line.partition(": ")
    return where, f"cannot be read: {what}" if not what.startswith("not") else f"is {what}"
