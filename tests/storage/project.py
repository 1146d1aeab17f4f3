"""Three small stages under real git and real DVC, with a remote, and clones of them as other people would make."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

KEY, PASSWORD = "AKIASTORAGETESTKEY00", "not/a/real+secret+but+looked+for/0123456789"  # made up
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": PASSWORD}
STAGES = ("prepare", "sft", "ppo")
MAKE = """
import json, pathlib, sys
stage, before = sys.argv[1], sys.argv[2:]
number = json.loads(pathlib.Path("params.json").read_text())[stage]
text = f"{stage} {number}\\n" + "".join(pathlib.Path(name, "weights.txt").read_text() for name in before)
folder = pathlib.Path("artifacts", stage)
folder.mkdir(parents=True)
(folder / "weights.txt").write_text(text)
(folder / "words.txt").write_text(f"of {stage}\\n")
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics", f"{stage}.json").write_text(json.dumps({f"{stage}_number": number}))
pathlib.Path("runs.log").open("a").write(f"{stage}\\n")
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str

    def refused(self, *words: str) -> bool:
        """Tell whether it failed, and its first line of error holds all these words and no line is a traceback."""
        first = next((line for line in self.errors.splitlines() if line.startswith("ERROR")), "")
        return self.code != 0 and all(word in first for word in words) and "Traceback" not in self.errors


@dataclass(frozen=True)
class Project:
    """The stages in a folder."""

    folder: Path
    home: Path  # where the user's own settings would lie; empty
    python: str = sys.executable  # that runs DVC

    def ask(self, *command: str, **environment: str) -> Ended:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=self.environment() | environment
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def run(self, *command: str, **environment: str) -> str:
        ended = self.ask(*command, **environment)
        assert ended.code == 0, f"{command}\n{ended.output}\n{ended.errors}"
        return ended.output

    def dvc(self, *words: str, **environment: str) -> str:
        return self.run(self.python, "-m", "dvc", *words, **environment)

    def ask_dvc(self, *words: str, **environment: str) -> Ended:
        return self.ask(self.python, "-m", "dvc", *words, **environment)

    def commit(self, message: str = "more") -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message, "--allow-empty")

    def clone(self, folder: Path) -> "Project":
        self.run("git", "clone", "-q", ".", str(folder))
        return replace(self, folder=folder)

    def artifacts(self) -> dict[str, bytes]:
        """Read every file below artifacts/ that DVC keeps."""
        found = sorted((self.folder / "artifacts").rglob("*.txt"))
        return {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in found}

    def stages_run(self) -> list[str]:
        """List the stages that have run in this folder."""
        log = self.folder / "runs.log"
        return log.read_text().split() if log.exists() else []

    def every_object(self) -> bytes:
        """Read all that git holds: every file of every commit, every message, every branch's name."""
        names = self.run("git", "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
        done = subprocess.run(
            ["git", "cat-file", "--batch"], cwd=self.folder, input="\n".join(names).encode(), capture_output=True,
            check=True,
        )  # fmt: skip
        return done.stdout + self.run("git", "for-each-ref").encode()

    def environment(self) -> dict[str, str]:
        """Without credentials, and without any place outside of this machine where they are looked for."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        person = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home), "AWS_EC2_METADATA_DISABLED": "true"}
        return {**kept, **person, **own, "PATH": path, "DVC_NO_ANALYTICS": "1", "AWS_DEFAULT_REGION": "us-east-1"}


def make_project(folder: Path, python: str = sys.executable) -> Project:
    """A project in folder/project that has run once and is committed; it has no remote yet."""
    project = Project(folder / "project", folder / "home", python)
    project.folder.mkdir(parents=True)
    project.home.mkdir()
    folder = project.folder
    stages: dict[str, object] = {}
    for number, stage in enumerate(STAGES):
        before = [f"artifacts/{STAGES[number - 1]}"] if number else []
        stages[stage] = {
            "cmd": " ".join(["python make.py", stage, *before]),
            "deps": ["make.py", *before],
            "params": [{"params.json": [stage]}],
            "outs": [f"artifacts/{stage}"],
            "metrics": [{f"metrics/{stage}.json": {"cache": False}}],
        }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}, indent=1))
    (folder / "params.json").write_text(json.dumps(dict.fromkeys(STAGES, 1)))
    (folder / "make.py").write_text(MAKE)
    (folder / ".gitignore").write_text("/runs.log\n")
    project.run("git", "init", "-q", "-b", "main")
    project.dvc("init", "-q")
    project.dvc("repro", "-q")
    project.commit("a run")
    return project
