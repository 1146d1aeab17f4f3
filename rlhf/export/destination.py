"""Make the folder of an export, which only a later export of the same sort may replace."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rlhf.core.artifacts import atomic_dir, sha256_tree, write_json
from rlhf.core.errors import UserError

MARK = "export.json"  # what was exported, from which bytes


@contextmanager
def export_dir(to: Path, *, about: Mapping[str, object], inputs: Iterable[Path]) -> Iterator[Path]:
    """Open a temporary folder that becomes `to` when the block ends well; `about` and the hashes of `inputs` go into
    it.

    Raises:
        UserError: `to` holds something else than an earlier export.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir()) and not (to / MARK).is_file()):
        raise UserError(f"{to}: exists and is no export (it has no {MARK}); name another folder, or remove it first")
    hashes = {path.as_posix(): sha256_tree(path) for path in inputs}
    with atomic_dir(to) as folder:
        yield folder
        write_json(folder / MARK, {**about, "made_from": hashes})
