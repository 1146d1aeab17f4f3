"""Get a pinned package from the registry that pip is set up for, as a file that is opened and never installed."""

import subprocess
import sys
from pathlib import Path

from rlhf.core.errors import UserError


def download(package: str, version: str, folder: Path) -> Path:
    """Download the wheel into `folder` and return its path.

    Raises:
        UserError: pip cannot: its last line.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(  # noqa: S603 - pip, and a pinned name
        [*command, "--dest", str(folder), f"{package}=={version}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise UserError(f"pip download {package}=={version}: {last[-1].strip()}")
    return next(folder.glob("*.whl"))


def check_name(wheel: Path, package: str, version: str) -> None:
    """Check that the file is called as that version of the package.

    Raises:
        UserError: it is of another package or version, or no such file.
    """
    found, of = [*wheel.name.split("-"), "", ""][:2]
    if (found, of) != (package.replace("-", "_"), version):
        raise UserError(f"{wheel}: found {found} {of or '(no version)'}; {package} {version} is needed")
    if not wheel.is_file():
        raise UserError(f"{wheel}: no such file")
