"""Verify a committed run: make it again, or take one that was made elsewhere, and compare it with dvc.lock."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError
from rlhf.runs.lock import Lock, parse_lock
from rlhf.runs.seed_table import Keys, keys_of
from rlhf.verify.causes import Fact, facts
from rlhf.verify.committed import LOCK, Committed
from rlhf.verify.compare import Compared, compare
from rlhf.verify.remake import remake
from rlhf.verify.scratch import Scratch, furnish, scratch_folder
from rlhf.verify.verdict import Status, Verdict, find_spread, metrics_in, verdict


@dataclass(frozen=True, slots=True)
class Asked:
    """What to verify. `settings`: KEY=VALUE of params.yaml, for a run that is not quite the committed one. `run`: a
    folder with a run that was made elsewhere. `scratch`: where the scratch folder is made; the system's place for
    temporary files without it. `python` runs the stages; this one without it."""

    root: Path = Path()
    commit: str = "HEAD"
    settings: Sequence[str] = ()
    until: str | None = None
    run: Path | None = None
    scratch: Path | None = None
    keep: bool = False
    python: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `kept` is the scratch folder, where the run in it is worth a look."""

    committed: Committed
    compared: Compared
    verdict: Verdict
    facts: Sequence[Fact]
    kept: Path | None


def verify(asked: Asked) -> Outcome:
    """Do what was asked.

    Raises:
        UserError: there is no such commit, stage or folder, no room, no data; or a stage failed.
    """
    committed = Committed.read(asked.root, asked.commit, asked.until)
    if asked.run is not None and not asked.run.is_dir():
        raise UserError(f"--run {asked.run}: no such folder")
    if asked.run is not None and asked.settings:
        raise UserError("--run compares a run that is there: -S and --profile, which change one, do not go with it")
    with scratch_folder(asked.scratch) as scratch:
        scratch.keep = asked.keep
        if asked.run is None:
            return _made_again(asked, committed, scratch)
        committed.commit.clone_to(scratch.project)
        return _outcome(committed, asked.run, scratch, {})


def _made_again(asked: Asked, committed: Committed, scratch: Scratch) -> Outcome:
    sys.stderr.write(f"verify: making {committed.commit.short} again in {scratch.folder}\n")
    furnish(scratch, committed, asked.settings)
    try:
        remake(scratch.project, asked.until, committed.seconds(), python=asked.python)
    except UserError:
        scratch.keep = True  # the log says more
        raise
    text = (scratch.project / LOCK).read_text(encoding="utf-8")
    return _outcome(committed, scratch.project, scratch, parse_lock(text, str(scratch.project / LOCK)))


def _outcome(committed: Committed, folder: Path, scratch: Scratch, now: Lock) -> Outcome:
    compared = compare(committed, folder, now)
    spread, found = None, list[Fact]()
    if compared.differences:
        first = compared.differences[0].stage
        names = [out for stage in committed.lock.values() for out in stage.outs if out.parts[0] == "metrics"]
        resolved = _resolved(committed, folder)
        keys = _keys(scratch.project, resolved)
        profile = str(resolved.get("profile", "?"))
        spread = find_spread(committed, keys, metrics_in(folder, names), profile)
        found = facts(committed, folder, now, first)
    said = verdict(compared, spread)
    worth_a_look = folder == scratch.project and said.status is not Status.SAME
    scratch.keep = scratch.keep or worth_a_look
    return Outcome(committed, compared, said, found, scratch.folder if scratch.keep else None)


def _keys(project: Path, resolved: dict[str, object]) -> Keys:
    """The keys of the commit's code with the run's parameters; of a project with other stages, of nothing."""
    try:
        return keys_of(project, resolved)
    except UserError:
        return Keys({}, "")


def _resolved(committed: Committed, folder: Path) -> dict[str, object]:
    path = folder / "params.resolved.json"
    found = read_json(path) if path.is_file() else committed.json("params.resolved.json")
    return found if isinstance(found, dict) else {}
