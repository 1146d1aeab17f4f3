from pathlib import Path

import pytest

from rlhf.report.build import build
from rlhf.report.html import html
from tests.report.runs import Run, prices


@pytest.fixture(scope="session")
def stored_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the stored run as it is; drawing its figures takes seconds."""
    return html(build(Run(tmp_path_factory.mktemp("stored")).read(), prices()))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)
