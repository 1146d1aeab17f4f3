"""Tiny base models with SFT adapters over them, and a project with everything that PPO reads."""

from pathlib import Path

import pytest

from rlhf.ppo.actors import Actors
from tests.model_fixtures import make_adapter
from tests.ppo import disk
from tests.ppo.worlds import make_actors


@pytest.fixture(scope="session")
def tiny_adapter_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_model_dir, tmp_path_factory.mktemp("tiny_sft"), seed=4)


@pytest.fixture(scope="session")
def llama_adapter_dir(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_llama_dir, tmp_path_factory.mktemp("tiny_llama_sft"), seed=5)


@pytest.fixture
def actors(tiny_model_dir: Path, tiny_adapter_dir: Path) -> Actors:
    return make_actors(tiny_model_dir, tiny_adapter_dir)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which all that PPO reads has been made; tests copy it."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        disk.build(root)
    return root
