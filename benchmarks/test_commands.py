"""How long a user waits for nothing: `dvc repro` where nothing changed, and `--help` of each stage.

    make bench

Goals on a quiet machine: 1.5 s and .3 s. Nothing asserts them: a second process beside it breaks any bound in seconds.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem not in ("__init__", "cli"))


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_repro_that_has_nothing_to_do(benchmark: Callable[..., Any]) -> None:
    if "up to date" not in run("dvc", "status"):
        pytest.skip("the pipeline is not up to date here: `dvc repro` first")
    benchmark.pedantic(run, args=("dvc", "repro"), rounds=5, warmup_rounds=1)  # type: ignore[attr-defined] # pytest's


@pytest.mark.parametrize("stage", STAGES)
def test_help(benchmark: Callable[..., Any], stage: str) -> None:
    assert "Usage" in benchmark.pedantic(run, args=(f"stages.{stage}", "--help"), rounds=3)  # type: ignore[attr-defined]
