"""The scripts for clusters, as far as one machine goes: linted, read, run with stand-ins for the cluster's commands.

Real are git, bash and torchrun, whose line in the Slurm script runs here as two nodes on the loopback device.
"""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.yaml import read_yaml

CLUSTER = Path(__file__).resolve().parents[2] / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
GATHER = """
import os, pathlib, torch
from torch import distributed
distributed.init_process_group("gloo")
rank, size = distributed.get_rank(), distributed.get_world_size()
found = [torch.zeros(1) for _ in range(size)]
distributed.all_gather(found, torch.tensor([float(10 + rank)]))
pathlib.Path(f"gathered-{rank}.txt").write_text(" ".join(str(int(each)) for each in found))
distributed.destroy_process_group()
"""
STUBS = {
    "dvc": 'echo "dvc $*" >> "$LOG"; [ "$*" != "$FAILS" ]',
    "scontrol": "echo 127.0.0.1; echo 127.0.0.2",  # the first is where the nodes meet
    # What srun does: the command once on each node, each with its number, and the worst of their statuses.
    "srun": 'shift; SLURM_NODEID=0 "$@" & one=$!; SLURM_NODEID=1 "$@" & two=$!; wait $one && wait $two',
    "ray": 'echo "ray $*" >> "$LOG"',
}


class Place:
    """A repository with the example scripts, a bare one as its home, and a shared folder with stand-ins on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shared, self.log = folder, folder / "shared", folder / "log"
        self.home = folder / "home.git"
        stubs = self.shared / ".venv" / "bin"
        stubs.mkdir(parents=True)
        for name, body in STUBS.items():
            (stubs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (stubs / name).chmod(0o755)
        (stubs / "torchrun").symlink_to(Path(sys.executable).parent / "torchrun")
        source = folder / "source"
        shutil.copytree(CLUSTER, source / "examples" / "cluster")
        for name in ("metrics", "plots", "provenance", "reports", "stages"):
            (source / name).mkdir()
            (source / name / "kept.py").write_text("")
        (source / "stages" / "ppo.py").write_text(GATHER)
        for name in ("dvc.lock", "params.resolved.json"):
            (source / name).write_text("{}\n")
        self.run("git", "init", "-q", "--bare", "-b", "main", str(self.home))
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "x"],
                      ["push", "-q", str(self.home), "main"]):  # fmt: skip
            self.run("git", *words, cwd=source)

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        person = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        path = os.pathsep.join([str(self.shared / ".venv" / "bin"), os.environ["PATH"]])
        own = {
            "PATH": path,
            "LOG": str(self.log),
            "FAILS": "",
            "REPOSITORY": str(self.home),
            "SHARED": str(self.shared),
        }
        own |= {"HOME": str(self.folder), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, cwd=cwd or self.folder, capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, **person, **own, **environment},
        )  # fmt: skip

    def slurm(self, *words: str, nodes: int = 1, **environment: str) -> subprocess.CompletedProcess[str]:
        allotted = {"SLURM_JOB_ID": "7", "SLURM_NNODES": str(nodes), "SLURM_JOB_NODELIST": "node[1-2]"}
        return self.run("bash", str(CLUSTER / "slurm.sh"), *words, **(allotted | environment))

    def said(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def branches(self) -> list[str]:
        return self.run("git", "branch", "--format=%(refname:short)", cwd=self.home).stdout.split()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_linted(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
        assert done.stdout == ""


def sbatch_options(text: str) -> dict[str, str]:
    """The options that sbatch reads: it stops at the first line that is neither empty nor a comment."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#SBATCH"):
            option = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
            assert option, line
            found[option[1]] = option[2] or ""
    return found


def test_what_slurm_is_asked_for() -> None:
    text = (CLUSTER / "slurm.sh").read_text()
    options = sbatch_options(text)
    assert options == {
        "job-name": "rlhf", "nodes": "1", "ntasks-per-node": "1", "cpus-per-task": "8", "mem": "64G",
        "gpus-per-node": "1", "time": "12:00:00", "requeue": "", "output": "%x-%j.log",
    }  # fmt: skip
    assert len(options) == text.count("#SBATCH")  # none stands where sbatch no longer looks
    assert sbatch_options("#!/bin/bash\n#SBATCH --mem=1G\n\ncd /\n#SBATCH --time=1\n") == {"mem": "1G"}


def test_a_job_on_one_node(place: Place) -> None:
    done = place.slurm()
    assert done.returncode == 0, done.stderr
    cache = f"dvc cache dir --local {place.shared}/dvc-cache"
    assert place.said() == [cache, "dvc pull", "dvc repro", "dvc push"]
    assert place.branches() == ["main", "runs/slurm-7"]
    assert list((place.shared / "clones").iterdir()) == []


def test_an_experiment_of_a_sweep(place: Place) -> None:
    assert place.slurm("-S", "ppo.kl_coef=0.1", "-S", "ppo.lr=5e-4").returncode == 0
    assert place.said()[1:] == [
        "dvc pull",
        "dvc exp run --name slurm-7 -S ppo.kl_coef=0.1 -S ppo.lr=5e-4",
        "dvc exp push origin slurm-7",
    ]
    assert place.branches() == ["main"]


@pytest.mark.parametrize("fails", ["dvc pull", "dvc repro", "dvc push"])
def test_what_fails_ends_the_job_and_its_clone_stays(place: Place, fails: str) -> None:
    done = place.slurm(FAILS=fails.removeprefix("dvc "))
    assert done.returncode != 0
    assert place.said()[-1] == fails
    assert place.branches() == ["main"]
    assert [folder.name for folder in (place.shared / "clones").iterdir()] == ["slurm-7"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x;y"])
def test_a_name_that_is_none_is_refused_before_any_work(place: Place, name: str) -> None:
    done = place.run("bash", str(CLUSTER / "job.sh"), cwd=place.folder / "source", RUN=name)
    assert done.returncode != 0
    assert "RUN" in done.stderr
    assert place.said() == []


def test_results_that_cannot_go_home_are_refused_before_any_work(place: Place) -> None:
    clone = place.folder / "clone"
    place.run("git", "clone", "-q", str(place.home), str(clone))
    shutil.rmtree(place.home)
    assert place.run("bash", str(CLUSTER / "job.sh"), cwd=clone, RUN="one").returncode != 0
    assert place.said() == []


def test_a_job_whose_name_was_taken_is_refused_before_any_work(place: Place) -> None:
    clone, source = place.folder / "clone", place.folder / "source"
    place.run("git", "clone", "-q", str(place.home), str(clone))
    place.run("git", "commit", "-qm", "of another job", "--allow-empty", cwd=source)
    place.run("git", "push", "-q", str(place.home), "HEAD:refs/heads/runs/one", cwd=source)
    assert place.run("bash", str(CLUSTER / "job.sh"), cwd=clone, RUN="one").returncode != 0
    assert place.said() == []


def free_port() -> int:
    """Find a port of the script's ten thousand that nobody listens on, nor did a moment ago."""
    for port in random.SystemRandom().sample(range(20000, 30000), 50):
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


@pytest.mark.thorough
@pytest.mark.parametrize("processes", [1, 2])
def test_two_nodes_meet_on_the_loopback_device(place: Place, processes: int) -> None:
    """The script as it is, its torchrun line included; the stage is an all-gather over gloo."""
    job = free_port() - 20000  # the script's port is 20000 and the number of the job
    fails = "commit --force ppo"  # it ends there, with its clone
    done = place.slurm(nodes=2, PROCESSES=str(processes), FAILS=fails, SLURM_JOB_ID=str(job))
    clone = place.shared / "clones" / f"slurm-{job}"
    gathered = sorted((file.name, file.read_text()) for file in clone.glob("gathered-*"))
    everybody = " ".join(str(10 + rank) for rank in range(2 * processes))
    assert gathered == [(f"gathered-{rank}.txt", everybody) for rank in range(2 * processes)], done.stderr
    assert place.said()[1:] == ["dvc pull", "dvc repro conformance reward", "dvc commit --force ppo"]
    assert done.returncode != 0


def test_a_sweep_on_several_nodes_is_refused(place: Place) -> None:
    done = place.slurm("-S", "ppo.kl_coef=0.1", nodes=2)
    assert done.returncode == 2
    assert "one node" in done.stderr
    assert place.said() == []


def test_a_sweep_on_ray(place: Place) -> None:
    done = place.run("bash", str(CLUSTER / "ray.sh"), "0.05", "1", RAY_ADDRESS="http://127.0.0.1:8265")
    assert done.returncode == 0, done.stderr
    jobs = [line for line in place.said() if line.startswith("ray")]
    assert [re.findall(r"KL_COEF=(\S+)", job) for job in jobs] == [["0.05"], ["1"]]
    names = [re.findall(r"--submission-id (\S+) .*RUN=(\S+)", job)[0] for job in jobs]
    assert all(submitted == run and re.fullmatch(r"kl-[0-9_]+-\d+", run) for submitted, run in names)
    assert len(set(names)) == 2


def keys(value: Any) -> set[str]:
    """Every key of a YAML document, at any depth."""
    if isinstance(value, list):
        return set().union(*map(keys, value)) if value else set()
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


def test_kubernetes() -> None:
    job = read_yaml(CLUSTER / "kubernetes.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert set(job["spec"]) == {"backoffLimit", "ttlSecondsAfterFinished", "template"}
    pod = job["spec"]["template"]["spec"]
    assert set(pod) == {"restartPolicy", "automountServiceAccountToken", "securityContext", "containers", "volumes"}
    assert pod["restartPolicy"] == "Never"  # a Job allows Never and OnFailure; a clone is fresh in a new pod alone
    (container,) = pod["containers"]
    assert set(container) == {"name", "image", "command", "args", "env", "envFrom", "resources", "volumeMounts"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    variables = {one["name"]: one for one in container["env"]}
    assert all(isinstance(one.get("value", ""), str) for one in variables.values())  # a number there is refused
    assert {"REPOSITORY", "RUN", "CACHE", "STATE", "PYTHONHASHSEED", "SETTINGS"} < set(variables)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["command"] == ["bash", "-euc"]
    assert subprocess.run(["bash", "-n", "-c", container["args"][0]], check=False).returncode == 0
    assert "examples/cluster/job.sh" in container["args"][0]


def test_skypilot() -> None:
    task = read_yaml(CLUSTER / "skypilot.yaml")
    assert set(task) == {"name", "resources", "envs", "secrets", "file_mounts", "setup", "run"}
    assert task["resources"] == {"accelerators": "A100:1", "use_spot": True}
    assert task["envs"]["RUN"] is None  # has to be given
    assert set(task["secrets"].values()) == {None}  # and no secret is in the file
    assert task["envs"]["STATE"].startswith(next(iter(task["file_mounts"])))
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n", "-c", task[part]], check=False).returncode == 0
    assert "examples/cluster/job.sh" in task["run"]


def test_no_file_holds_a_secret_or_listens_to_the_network() -> None:
    for file in CLUSTER.iterdir():
        text = file.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}|0\.0\.0\.0|(?i:password|secret_access_key)\s*[=:] *['\"]\w", text), (
            file.name
        )
