"""Check DVC's local cache, in which an object's name is the MD5 of its bytes."""

import configparser
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.dvc_hash import file_md5
from rlhf.runs.lock import FOLDER, Lock


@dataclass(frozen=True, slots=True)
class Cache:
    """The objects of a local cache, `folder`/ab/cdef…; the folder need not exist."""

    folder: Path

    def path(self, md5: str) -> Path:
        """Name the file of an object."""
        return self.folder / md5[:2] / md5[2:]

    def listing(self, md5: str) -> dict[str, str] | None:
        """Read the MD5s of a folder's files, by name; None where that object is not here or not whole."""
        if not self.whole(md5):
            return None
        return {entry["relpath"]: entry["md5"] for entry in json.loads(self.path(md5).read_bytes())}

    def check(self, lock: Lock, *, whole: bool) -> tuple[int, list[tuple[Path, str]]]:
        """Hash the objects that dvc.lock refers to, or all that are here; return how many, and those that are damaged.

        An object that is not here is no fault: a cache may hold as little as it likes.
        """
        names = dict.fromkeys(self._all()) if whole else {}
        names |= dict(self._of(lock))
        here = {md5: said for md5, said in names.items() if self.path(md5).is_file()}
        damaged = []
        for md5, said in here.items():
            if not self.whole(md5):
                what = f", what DVC restores {said} from," if said else ""
                damaged.append((self.path(md5), f"is damaged: the object{what} has other bytes than its name says"))
        return len(here), damaged

    def _of(self, lock: Lock) -> Iterator[tuple[str, str]]:
        for stage in lock.values():
            for item in stage.outs.values():
                yield item.md5, str(item.path)
                if item.md5.endswith(FOLDER):
                    for name, md5 in (self.listing(item.md5) or {}).items():
                        yield md5, str(item.path / name)

    def _all(self) -> Iterator[str]:
        for path in sorted(self.folder.glob("*/*")):
            name = path.parent.name + path.name
            if re.fullmatch(rf"[0-9a-f]{{32}}({re.escape(FOLDER)})?", name):
                yield name

    def whole(self, md5: str) -> bool:
        """Say whether an object is here and has the bytes that its name says."""
        path = self.path(md5)
        return path.is_file() and file_md5(path) == md5.removesuffix(FOLDER)


def find_cache(root: Path) -> Cache:
    """Find the project's cache: `cache.dir` of its settings, the nearest first, else .dvc/cache.

    A relative folder is relative to the settings' own, as DVC has it.
    """
    for path in (root / ".dvc" / "config.local", root / ".dvc" / "config", *_of_the_user()):
        if found := _setting(path):
            return Cache((path.parent / found).resolve() / "files" / "md5")
    return Cache(root / ".dvc" / "cache" / "files" / "md5")


def _setting(path: Path) -> str | None:
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        settings.read_string(path.read_text(encoding="utf-8"))
    except (OSError, configparser.Error):
        return None
    return settings.get("cache", "dir", fallback=None)


def _of_the_user() -> Iterator[Path]:
    """Name the files of settings that all projects of this user, and of this machine, share."""
    from dvc.config import Config  # type: ignore[import-untyped] # it has none

    for level in ("global", "system"):
        if folder := Config.get_dir(level):
            yield Path(folder) / "config"
