"""A toy pipeline that has run once, for all tests of a folder."""

from pathlib import Path

import pytest

from tests.stages.forker import Forker
from tests.verify.toy import Toy, make_toy


@pytest.fixture(scope="session")
def made_toy(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Not to be changed."""
    return make_toy(tmp_path_factory.mktemp("toy") / "project", forker)


@pytest.fixture
def toy(made_toy: Toy, tmp_path: Path) -> Toy:
    """A copy of it, to do with as one likes."""
    return made_toy.copy(tmp_path / "toy")
