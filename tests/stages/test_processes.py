"""Real stages as several real processes: the same bytes, and one line however they end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.stages.project import MICRO, Project

SIZE = MICRO | {
    "base.pretrain.steps": 60, "base.pretrain.shards": 4, "sft.shards": 4, "ppo.shards": 4, "offline.shared.shards": 4,
    "reward.tune.shards": 4, "reward.tune.epochs": 1, "reward.batch_tokens": 256, "runtime.checkpoint_steps": 3,
    "offline.shared.max_examples": 32, "offline.shared.eval_examples": 8, "offline.shared.batch_size": 8,
    "offline.shared.eval_every": 2, "offline.dpo.run": True, "offline.rrhf.run": True, "offline.rrhf.n": 2,
    "offline.best_of_n.run": True, "offline.best_of_n.n": [2],
}  # fmt: skip
OUTS = {
    "base": ("artifacts/base", "plots/base.csv", "metrics/base.json", "provenance/base.json"),
    "sft": ("artifacts/sft", "artifacts/sft_samples.jsonl", "plots/sft.csv", "metrics/sft.json", "provenance/sft.json"),
    "reward": (
        "artifacts/reward", "artifacts/referee", "artifacts/reward_learned.json", "plots/reward.csv",
        "plots/reward_calibration.csv", "metrics/reward.json", "provenance/reward.json",
    ),
    "ppo": ("artifacts/ppo", "artifacts/rollouts", "plots/ppo.csv", "metrics/ppo.json", "provenance/ppo.json"),
    "evaluate": (
        "artifacts/evaluate", "plots/overoptimisation.csv", "metrics/evaluate.json", "provenance/evaluate.json",
    ),
    **{
        f"offline@{method}": (
            f"artifacts/offline/{method}", f"metrics/offline_{method}.json", f"provenance/offline_{method}.json",
        )
        for method in ("dpo", "rrhf")
    },
    "compare": ("artifacts/compare", "plots/compare.csv", "metrics/compare.json", "provenance/compare.json"),
}  # fmt: skip
pytestmark = [pytest.mark.thorough, pytest.mark.pipeline, pytest.mark.slow]


def stage(project: Project, name: str) -> subprocess.Popen[str]:
    module, _, variant = name.partition("@")
    command = [sys.executable, "-m", f"stages.{module}", *filter(None, [variant])]
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def run(project: Project, name: str, processes: int) -> dict[str, bytes]:
    project.set({"launch.processes": processes})
    for each in ("resolve", name):
        going = stage(project, each)
        _, errors = going.communicate()
        assert going.returncode == 0, errors
    return outputs(project, name)


def outputs(project: Project, name: str) -> dict[str, bytes]:
    files = [path for out in OUTS[name] for path in [project.folder / out, *sorted((project.folder / out).rglob("*"))]]
    return {path.relative_to(project.folder).as_posix(): path.read_bytes() for path in files if path.is_file()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.copy(tmp_path_factory.mktemp("project"), SIZE)
    for name in ("resolve", "prepare"):
        assert stage(project, name).wait() == 0
    return project


def test_the_chain_has_the_same_bytes_at_any_number_of_processes(prepared: Project) -> None:
    offline = [f"offline@{method}" for method in ("dpo", "ipo", "rrhf", "rejection", "best_of_n")]
    for name in ("base", "conformance", "sft", "reward", "ppo", "evaluate", *offline, "compare"):
        if name not in OUTS:
            assert stage(prepared, name).wait() == 0
            continue
        found = [run(prepared, name, processes) for processes in (1, 2, 4)]
        assert len(found[0]) >= 4
        assert found[0] == found[1] == found[2], name


def test_a_tuned_reward_model_has_the_same_bytes_at_any_number_of_processes(prepared: Project) -> None:
    make_upstream(prepared, "reward")
    prepared.set({"reward.train": "lora"})
    try:
        found = [run(prepared, "reward", processes) for processes in (1, 2, 4)]
    finally:
        prepared.set({"reward.train": "head", "launch.processes": 1})
        assert stage(prepared, "resolve").wait() == 0
    assert "artifacts/reward/adapter/adapter_model.safetensors" in found[0]
    assert found[0] == found[1] == found[2]


def make_upstream(prepared: Project, name: str) -> None:
    """What the stage starts from, as far as it is not there yet."""
    chain = ["base", "conformance", "sft", "reward"]
    for each in chain[: chain.index(name)] if name in chain else chain:
        if not (prepared.folder / "provenance" / f"{each}.json").is_file():
            assert stage(prepared, each).wait() == 0


def kill(number: signal.Signals, rank: int | None) -> Callable[[subprocess.Popen[str], list[psutil.Process]], None]:
    return lambda launcher, ranks: (launcher if rank is None else ranks[rank]).send_signal(number)


HITS = {
    "main": (kill(signal.SIGKILL, 0), 1, r"error: {stage}: process 0 of 2 was ended by SIGKILL.*"),
    "other": (kill(signal.SIGKILL, 1), 1, r"error: {stage}: process 1 of 2 was ended by SIGKILL.*"),
    "term": (kill(signal.SIGTERM, 1), 1, r"error: {stage}: process 1 of 2 was ended by SIGTERM.*"),
    "interrupt": (kill(signal.SIGINT, 1), 130, r"{stage}: stopped; the same command resumes from the last checkpoint"),
    "stop": (kill(signal.SIGTERM, None), 130, r"{stage}: stopped; the same command resumes from the last checkpoint"),
    "ctrl-c": (kill(signal.SIGINT, None), 130, r"{stage}: stopped; the same command resumes from the last checkpoint"),
    "launcher": (kill(signal.SIGKILL, None), -9, None),
}


@pytest.mark.parametrize(
    ("name", "hit", "after"),
    [
        *(("base", hit, after) for hit in HITS for after in (1, 4)),
        ("reward", "other", 4),
        ("reward", "stop", 1),
        ("offline@dpo", "other", 1),
        ("offline@dpo", "launcher", 4),
        ("offline@rrhf", "main", 1),
    ],
)
def test_hit_at_two_and_resumed(prepared: Project, name: str, hit: str, after: int) -> None:
    make_upstream(prepared, name)
    strike, status, line = HITS[hit]
    whole = run(prepared, name, 1)
    prepared.set({"launch.processes": 2})
    assert stage(prepared, "resolve").wait() == 0
    going = stage(prepared, name)
    while not list(prepared.folder.glob(f".checkpoints/{name}-*/**/manifest.json")):
        assert going.poll() is None
        time.sleep(0.02)
    ranks = psutil.Process(going.pid).children()
    assert len(ranks) == 2
    strike(going, ranks)
    began = time.monotonic()
    _, errors = going.communicate()
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert not alive
    assert time.monotonic() - began < 60  # 30 s are promised; this machine may be busy
    assert going.returncode == status
    said = [each for each in re.split(r"[\r\n]+", errors) if each and "%|" not in each and "note:" not in each]
    told = [each for each in said if "resuming" not in each]
    assert [bool(line and re.fullmatch(line.format(stage=name), each)) for each in told] == [True] * bool(line)
    assert run(prepared, name, after) == whole


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_cluster_s_launcher_is_joined(prepared: Project) -> None:
    """Two "nodes" on the loopback device, as torchrun starts them."""
    whole = run(prepared, "base", 1)
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--local-addr", "127.0.0.1"]
    environment = prepared.environment() | {"GLOO_SOCKET_IFNAME": "lo"}
    nodes = [
        subprocess.Popen([*command, "-m", "stages.base"], cwd=prepared.folder, env=environment) for _ in range(2)
    ]  # fmt: skip
    assert [node.wait() for node in nodes] == [0, 0]
    assert outputs(prepared, "base") == whole


def test_processes_that_do_not_divide_the_shards_are_refused(prepared: Project) -> None:
    prepared.set({"launch.processes": 3})
    going = stage(prepared, "resolve")
    _, errors = going.communicate()
    assert going.returncode == 1
    assert errors.startswith("error: params.yaml: launch.processes: found 3; it must divide base.pretrain.shards (4)")
    assert os.linesep in errors
    assert Path(prepared.folder / "params.resolved.json").is_file()
