"""Fixtures for all tests. Nothing here or below reaches the network."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tests.typechecker  # first: pytest lays its checker over the modules with arrays imported after it
from rlhf.core import portable, yaml

portable.apply()  # before torch and numpy: what a test sees on one processor, it sees on all
gc.disable()  # until all tests are found: until then next to nothing is garbage, and looking for it takes a sixth

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.model_fixtures import tiny_encoder_dir, tiny_llama_dir, tiny_model_dir  # noqa: E402
from tests.stages.forker import Forker  # noqa: E402

__all__ = ["tiny_encoder_dir", "tiny_llama_dir", "tiny_model_dir"]

ROOT = Path(__file__).resolve().parents[1]
LONGEST = [
    "stages/test_pipeline.py",
    "stages/test_kill.py",
    "stages/test_experiments.py",
    "stages/test_kill_offline.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first (in this order, then those that run stages), so that no worker is left with one
    of them when the others have nothing more to do."""

    def rank(item: pytest.Item) -> tuple[int, bool]:
        file = item.path.relative_to(ROOT / "tests").as_posix()
        return LONGEST.index(file) if file in LONGEST else len(LONGEST), item.get_closest_marker("pipeline") is None

    ranks: dict[Path, tuple[int, bool]] = {}
    for item in items:
        ranks[item.path] = min(ranks.get(item.path, rank(item)), rank(item))
    items.sort(key=lambda item: ranks[item.path])


def pytest_collection_finish() -> None:
    """Look for garbage again, but no more among the modules and tests that stay to the end."""
    gc.freeze()
    gc.enable()


settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


_parse, _parsed = yaml._parsed.__wrapped__, dict[str, dict[str, Any]]()


def _parse_once(text: str, where: str) -> dict[str, Any]:
    """Parse a text once, wherever it lies: tests copy params.yaml by the hundred, at a quarter of a second each."""
    if text not in _parsed:
        _parsed[text] = _parse(text, where)
    return _parsed[text]


yaml._parsed = _parse_once  # type: ignore[assignment] # whose callers copy what they get, as with its own cache


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _checked_calls() -> None:
    tests.typechecker.begin_test()


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Stage commands without the seconds of their imports, for all tests of a session."""
    forker = Forker()
    yield forker
    forker.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is not part of the project: RLHF_SHARED_DATA, or ../shared/data beside the project."""
    folder = Path(os.environ.get("RLHF_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is not here: no {folder} (set RLHF_SHARED_DATA)")
    return folder
