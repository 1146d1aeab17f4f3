"""Carry to a GPU machine without a network the wheels that it lacks, downloaded where there is one.

Only the standard library is imported here, so that it runs before anything is installed.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".gpu"  # ignored by git
WHEELS, SITE = FOLDER / "wheels", FOLDER / "site"
# The project's own needs beyond torch, transformers and peft, in the versions that are installed here.
OURS = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "ruamel.yaml")
OURS += ("click", "jaxtyping", "pathspec", "wadler-lindig")
PEER = ("trl==1.12.0", "datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def download(folder: Path, *, python: str, also: list[str]) -> None:
    """Fetch the wheels for a Linux machine with that version of Python; no dependency follows by itself."""
    pins = [*(f"{name}=={version(name)}" for name in OURS), *PEER, *also]
    where = [word for platform in PLATFORMS for word in ("--platform", platform)]
    kind = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *where]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *kind, "--dest", str(folder), *pins], check=True)
    size = sum(path.stat().st_size for path in folder.glob("*.whl")) / 2**20
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size:.1f} MiB")


def install(folder: Path, site: Path) -> None:
    """Put the wheels into a folder of their own, which `run` and `repro_gpu` prepend to the module path."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    wheels = sorted(str(path) for path in folder.glob("*.whl"))
    if not wheels:
        raise SystemExit(f"{folder}: no wheels; run `python -m benchmarks.gpu wheels` where there is a network")
    subprocess.run([*pip, "--no-compile", "--upgrade", "--target", str(site), *wheels], check=True)


def module_path(site: Path = SITE) -> str:
    """Build PYTHONPATH for child processes: what was installed, then the project, then what was there."""
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [str(site) if site.is_dir() else "", str(ROOT), given]))


def need_gpu() -> None:
    """End with one line where torch sees no GPU."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("error: torch sees no NVIDIA GPU here; --dry-run tries everything on a CPU in small sizes")
