"""Ask git what a commit holds, and take it out into a folder of its own."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.core.git import environment


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the repository that holds the folder `root`; paths are relative to that folder."""

    root: Path
    hash: str

    @classmethod
    def find(cls, root: Path, name: str) -> "Commit":
        """Find a commit by its hash, branch, tag or experiment.

        Raises:
            UserError: there is no git, no repository, or no such commit in it.
        """
        top = _git(root, "rev-parse", "--show-toplevel")
        if top is None or Path(os.fsdecode(top).removesuffix("\n")).resolve() != root.resolve():
            raise UserError(f"{root.resolve()}: not the top of a git repository, so no run was committed here")
        found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if found is None:
            raise UserError(f"{name}: no such commit here; `git log --oneline` and `dvc exp list` show what there is")
        return cls(root, found.decode().strip())

    @property
    def short(self) -> str:
        """The first digits of the hash, for readers."""
        return self.hash[:9]

    def read(self, path: str | Path) -> bytes | None:
        """Read a file as it was committed; None where the commit has none."""
        return _git(self.root, "cat-file", "blob", f"{self.hash}:./{Path(path).as_posix()}")

    def files(self, folder: str) -> list[str]:
        """List the committed files below a folder."""
        listed = _git(self.root, "ls-tree", "-r", "-z", "--name-only", self.hash, "--", f"{folder}/")
        return [name for name in os.fsdecode(listed or b"").split("\0") if name]

    def clone_to(self, folder: Path) -> None:
        """Make `folder` a repository of its own, with this commit checked out and no link to any cache.

        Raises:
            UserError: git refused; its last line.
        """
        top = str(self.root.resolve())
        quiet = ("-c", "advice.detachedHead=false", "-c", "core.autocrlf=false")
        _must(folder.parent, *quiet, "clone", "--quiet", "--no-checkout", "--shared", top, folder.name)
        _must(folder, *quiet, "checkout", "--quiet", "--detach", self.hash)


def _git(folder: Path, *words: str) -> bytes | None:
    """Run a git command; None where it fails or there is no git."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, env=environment(), capture_output=True, check=False)  # noqa: S603, S607 - fixed words and names checked by git
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _must(folder: Path, *words: str) -> None:
    done = subprocess.run(["git", *words], cwd=folder, env=environment(), capture_output=True, check=False)  # noqa: S603, S607 - as above
    if done.returncode:
        last = (os.fsdecode(done.stderr).strip().splitlines() or ["no message"])[-1]
        raise UserError(f"git {next(word for word in words if not word.startswith(('-', 'advice', 'core')))}: {last}")
