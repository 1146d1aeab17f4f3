"""A toy pipeline under real git and real DVC: the project's stages by name, each a few lines that take no time.

Its numbers hang on the seed, on the parameters, on its data, and, in the last digits or in more of them, on the
"processor" that TOY_PROCESSOR plants.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rlhf.runs.headlines import SEEDS
from rlhf.runs.seed_table import SeedTable, keys_of, write_tables
from tests.stages.forker import Forker

STAGES = ("prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate")
NUMBERS = {"base": "base_perplexity", "sft": "sft_perplexity_after", "reward": "reward_accuracy",
           "ppo": "ppo_kl_final", "evaluate": "eval_kl"}  # fmt: skip

MAKE = '''"""The toy's stages."""
import hashlib, json, os, pathlib, random, sys

stage = sys.argv[1]
if stage == os.environ.get("TOY_FAIL"):
    sys.exit("error: artifacts/base: the disk is full, as planted\\n")
if stage == os.environ.get("TOY_SLEEP"):
    import time
    print("asleep", flush=True)
    time.sleep(600)
resolved = json.loads(pathlib.Path("params.json").read_text())
if stage == "resolve":
    pathlib.Path("params.resolved.json").write_text(json.dumps(resolved))
    sys.exit()
processor, shift = os.environ.get("TOY_PROCESSOR", "Toy A:0").split(":")
number = random.Random(f"{resolved['seed']}{stage}{resolved[stage]}").gauss(5, 1)
if stage in ("ppo", "evaluate"):
    number += float(shift)


def write(name, text):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


write(f"artifacts/{stage}/weights.txt", f"{number!r}\\n" * 100)
write(f"artifacts/{stage}/deep/words.txt", "of no importance\\n")
write(f"metrics/{stage}.json", json.dumps({NUMBERS.get(stage, "prepare_rows"): number}))
files = [f"artifacts/{stage}/weights.txt", f"artifacts/{stage}/deep/words.txt", f"metrics/{stage}.json"]
hashes = {name: hashlib.sha256(pathlib.Path(name).read_bytes()).hexdigest() for name in files}
versions = {"python": "3.11.7", "torch": os.environ.get("TOY_TORCH", "2.0")}
record = json.dumps({"stage": stage, "inputs": {}, "outputs": {}, "files": hashes, "versions": versions})
write(f"provenance/{stage}.json", record)
made = hashlib.sha256(record.encode()).hexdigest()
facts = {"machine": {"processor": processor}, "numerics": {"instruction_set": "AVX2"}, "made": made, "wall_s": 0.5}
write(f".costs/{stage}.json", json.dumps(facts))
'''


@dataclass(frozen=True)
class Toy:
    """The project in a folder."""

    folder: Path

    def run(self, *command: str, **env: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=environment() | env
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def dvc(self, forker: Forker, *words: str, **env: str) -> str:
        """DVC without the seconds of its imports."""
        return self.run(str(forker.python), "-m", "dvc", *words, **env)

    def commit(self, message: str = "more") -> str:
        """Commit everything; the commit's hash."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message, "--allow-empty")
        return self.run("git", "rev-parse", "HEAD").strip()

    def copy(self, folder: Path) -> "Toy":
        return Toy(shutil.copytree(self.folder, folder, symlinks=True))


def environment() -> dict[str, str]:
    identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    identity |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org", "DVC_NO_ANALYTICS": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, **identity, "PATH": path}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def dag() -> str:
    """dvc.yaml: each stage reads the one before, its code and its data."""
    resolve = {"cmd": "python make.py resolve", "deps": ["make.py", "params.json"],
               "outs": [{"params.resolved.json": {"cache": False}}]}  # fmt: skip
    stages: dict[str, object] = {"resolve": resolve}
    for number, stage in enumerate(STAGES):
        before = [f"artifacts/{STAGES[number - 1]}"] if number else ["inputs/preferences"]
        stages[stage] = {
            "cmd": f"python make.py {stage}",
            "deps": ["make.py", f"rlhf/{stage}", *before],
            "params": [{"params.resolved.json": [stage, "seed"]}],
            "outs": [f"artifacts/{stage}", {f"provenance/{stage}.json": {"cache": False}}],
            "metrics": [{f"metrics/{stage}.json": {"cache": False}}],
        }
    return json.dumps({"stages": stages}, indent=1)


def make_toy(folder: Path, forker: Forker) -> Toy:
    """A toy whose first run is committed, with the machine that made it and a table of what other seeds give."""
    toy = Toy(folder)
    write(folder / "make.py", MAKE.replace("NUMBERS", repr(NUMBERS)))
    write(folder / "dvc.yaml", dag())
    write(folder / "params.yaml", json.dumps({"profile": "toy"}))
    write(folder / "params.json", json.dumps({"profile": "toy", "seed": 0} | dict.fromkeys(STAGES, 1)))
    for stage in STAGES:
        write(folder / "rlhf" / stage / "code.py", '"""Code."""\nVALUE = 1\n')
    write(folder / "inputs" / "preferences" / "pairs.jsonl", "{}\n")
    write(folder / ".gitignore", "/inputs/preferences/*\n/.costs/\n/params.json.bak\n")
    toy.run("git", "init", "-q")
    toy.dvc(forker, "init", "-q")
    toy.dvc(forker, "repro", "-q")
    costs = {path.stem: json.loads(path.read_text()) for path in (folder / ".costs").glob("*.json")}
    machine = costs["ppo"]["machine"]
    gathered = {"machine": machine, "stages": {name: {**one, "machine": None} for name, one in costs.items()}}
    write(folder / "benchmarks" / "results" / "stages.json", json.dumps(gathered))
    write_table(toy)
    toy.commit("a run")
    return toy


def write_table(toy: Toy, seeds: int = SEEDS) -> None:
    """Numbers as the toy would measure them with other seeds: normal, of mean 5 and standard deviation 1."""
    import random

    draw = random.Random(8)
    rows = {str(seed): {name: draw.gauss(5, 1) for name in NUMBERS.values()} for seed in range(seeds)}
    resolved = json.loads((toy.folder / "params.resolved.json").read_text())
    table = SeedTable("toy", keys_of(toy.folder, resolved), {}, rows)
    write_tables(toy.folder / "benchmarks" / "results" / "seed_spread.json", {"toy": table})
