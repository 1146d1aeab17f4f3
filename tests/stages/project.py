"""A throwaway copy of this project at a size that runs in seconds, driven by the real `dvc` and `git` commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from tests.stages.forker import Forker

ROOT = Path(__file__).resolve().parents[2]

MICRO: dict[str, object] = {
    "runtime.threads": 1,
    "data.synthetic.prompts": 200,
    "data.synthetic.ood_prompts": 20,
    "data.synthetic.corpus_documents": 2000,
    "base.pretrain.steps": 30,
    "base.pretrain.width": 64,
    "sft.epochs": 1,
    "sft.max_examples": 64,
    "reward.epochs": 2,
    "reward.normalise_prompts": 16,
    "ppo.iterations": 3,
    "ppo.batch": 8,
    "ppo.minibatch": 4,
    "ppo.response_tokens": 8,
    "evaluate.prompts": 16,
    "evaluate.ood_prompts": 8,
    "evaluate.exact_kl_prompts": 4,
    "evaluate.samples": 4,
    "evaluate.probes": 8,
    "evaluate.tax.documents": 20,
    **dict.fromkeys(("sft.sample_tokens", "reward.response_tokens", "evaluate.response_tokens"), 8),
    "offline.shared.response_tokens": 8,
}


class Project:
    """A folder with a clone or a copy of the project, and commands run in it. Where there is a `forker`, `python -m
    stages.<name>` runs there, whoever starts it."""

    def __init__(self, folder: Path, forker: Forker | None = None) -> None:
        self.folder, self.forker = folder, forker

    @classmethod
    def copy(cls, folder: Path, changes: dict[str, object], forker: Forker | None = None) -> "Project":
        """The working tree's files (those that git would know), committed in a new repository with `changes` to
        params.yaml and without the lock and results of the full run."""
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        dropped = ("dvc.lock", "metrics/", "plots/", "provenance/", "params.resolved.json", "tests/")
        for name in filter(None, names):
            if not name.startswith(dropped) and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        project = cls(folder, forker)
        project.set({"launch.processes": 1} | changes)  # more change nothing, and tests have no core to spare
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
            project.git(*command)
        return project

    def set(self, changes: dict[str, object]) -> None:
        """Change values in params.yaml, keeping its comments."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        value = yaml.load(path.read_text())
        for dotted, new in changes.items():
            *parents, last = dotted.split(".")
            place = value
            for parent in parents:
                place = place[parent]
            assert last in place, f"params.yaml has no {dotted}"
            place[last] = new
        with path.open("w") as file:
            yaml.dump(value, file)

    def run(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command; on failure show what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=self.environment(**env)
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def python(self) -> Path:
        return self.forker.python if self.forker else Path(sys.executable)

    def environment(self, **extra: str) -> dict[str, str]:
        """This environment, with this Python's commands first and an identity for git."""
        scripts = Path(sys.executable).parent
        identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
        identity |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
        forks = [str(self.forker.python.parent)] if self.forker else []
        path = os.pathsep.join([*forks, str(scripts), os.environ["PATH"]])
        return {**os.environ, **identity, "PATH": path, "DVC_NO_ANALYTICS": "1", **extra}

    def git(self, *args: str) -> str:
        return self.run("git", *args).stdout

    def dvc(self, *args: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.python), "-m", "dvc", *args, check=check, **env)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def clone(self, folder: Path) -> "Project":
        """A fresh git clone, without DVC's cache."""
        self.run("git", "clone", "-q", str(self.folder), str(folder))
        return Project(folder, self.forker)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()
