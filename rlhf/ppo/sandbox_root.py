"""What code in the sandbox sees: an interpreter, the libraries that it loads, Python's standard library. Nothing else.

Each is bound by name from where this Python has it, so that nothing that happens to lie beside them comes along: no
site-packages, no virtual environment, no project, wherever that lies.
"""

import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlhf.core.errors import UserError

HOME, LIBRARIES = Path("/python"), Path("/lib")  # in the sandbox
_ZONES = Path("/usr/share/zoneinfo")

# What the base interpreter says of itself, once it has loaded all extension modules that code may want.
_ASK = """
import importlib, json, os, sys, sysconfig
folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
for name in sorted({name.split(".")[0] for folder in folders for name in os.listdir(folder + "/lib-dynload")}):
    if not name.startswith(("_test", "_xx", "xx", "_tkinter", "_curses", "_dbm", "_gdbm", "readline")):
        try:
            importlib.import_module(name)
        except Exception:
            pass
with open("/proc/self/maps") as maps:
    mapped = sorted({line.split(None, 5)[5].rstrip("\\n") for line in maps if "/" in line})
print(json.dumps({"prefix": sys.prefix, "folders": folders, "mapped": mapped}))
"""


@dataclass(frozen=True, slots=True)
class Root:
    """The arguments that make it, and the command that starts the interpreter in it."""

    mounts: tuple[str, ...]
    python: tuple[str, ...]


@cache
def sandbox_root() -> Root:
    """The file system of a sandbox, read-only as a whole.

    Raises:
        UserError: this Python does not say where its library is.
    """
    python = _base_python()
    command = [str(python), "-I", "-S", "-c", _ASK]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if asked.returncode != 0:
        raise UserError(f"code needs a sandbox, and {python} does not say where its library is")
    said = json.loads(asked.stdout)
    folders = [Path(folder) for folder in dict.fromkeys(said["folders"])]
    loader = _loader(python)
    mounts = _bind(python, HOME / "bin" / python.name)
    for folder in folders:
        mounts += _library(folder, HOME / os.path.relpath(folder, said["prefix"]))
    for file in map(Path, said["mapped"]):
        if ".so" in file.name and not any(file.is_relative_to(folder) for folder in folders) and file != loader:
            mounts += _shared(file)
    start: tuple[str, ...] = ()
    if loader is not None:
        mounts += _bind(loader, LIBRARIES / "loader")
        start = (str(LIBRARIES / "loader"), "--library-path", str(LIBRARIES))
    if _ZONES.is_dir():
        mounts += _bind(_ZONES, _ZONES)
    mounts += ["--dev-bind", "/dev/null", "/dev/null", "--remount-ro", "/"]
    return Root(tuple(mounts), (*start, str(HOME / "bin" / python.name), "-I", "-S", "-X", "utf8"))


def _base_python() -> Path:
    """The interpreter behind a virtual environment."""
    named = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return Path(os.path.realpath(named if named.exists() else sys.executable))


def _library(folder: Path, at: Path) -> list[str]:
    """Python's own modules in a folder; what else lies there is covered: folders by empty ones, files by nothing."""
    ours = {*sys.stdlib_module_names, "lib-dynload", "__pycache__"}
    mounts = _bind(folder, at)
    for item in sorted(folder.iterdir()):
        if item.is_symlink() or item.name.partition(".")[0] in ours or item.name.startswith("_sysconfigdata"):
            continue  # a link leads nowhere but to what is in the sandbox
        cover = str(at / item.name)
        if item.is_dir():
            mounts += ["--tmpfs", cover, "--remount-ro", cover]
        elif item.is_file():
            mounts += ["--ro-bind", "/dev/null", cover]
    return mounts


def _shared(file: Path) -> list[str]:
    """A shared library, under all names that it has where it lies: programs ask for one of them."""
    mounts = _bind(file, LIBRARIES / file.name)
    for other in file.parent.iterdir():
        if other.is_symlink() and other.name != file.name and Path(os.path.realpath(other)) == file:
            mounts += ["--symlink", file.name, str(LIBRARIES / other.name)]
    return mounts


def _bind(path: Path, at: Path) -> list[str]:
    return ["--ro-bind", str(path), str(at)]


def _loader(program: Path) -> Path | None:
    """The program that loads a program's shared libraries (PT_INTERP of a 64-bit ELF file); None where it has none."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return None
        (start,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        for index in range(count):
            file.seek(start + index * size)
            entry = file.read(56)
            kind, (offset,), (length,) = (
                struct.unpack_from("<I", entry)[0], struct.unpack_from("<Q", entry, 8),
                struct.unpack_from("<Q", entry, 32),
            )  # fmt: skip
            if kind == 3:
                file.seek(offset)
                return Path(os.path.realpath(os.fsdecode(file.read(length).rstrip(b"\0"))))
    return None
