"""Stages that studies start run in forks of a process that has made its imports."""

import sys

import pytest

from tests.stages.forker import Forker


@pytest.fixture
def forked(forker: Forker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started as `sys.executable -m stages.<name>` is forked."""
    monkeypatch.setattr(sys, "executable", str(forker.python))
