"""What studies over several seeds share: their command line, and writing each run down as soon as it is there."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Found = dict[str, dict[str, Any]]
OneRun = Callable[[Path, int, str], dict[str, Any]]


def span(own: dict[str, Any], name: str, digits: int = 2) -> str:
    """A number with its 95 % interval, where it has one; a dash where there is none."""
    if own.get(name) is None:
        return "–"
    low, high = own.get(f"{name}_low"), own.get(f"{name}_high")
    ends = f" ({low:.{digits}f} to {high:.{digits}f})" if low is not None else ""
    return f"{own[name]:.{digits}f}{ends}"


def run_study(
    name: str,
    text: str,
    ways: Sequence[str],
    one_run: OneRun,
    table: Callable[[Found], str],
    *,
    asked: Sequence[str] = (),
) -> tuple[Found, Path]:
    """Read the command line, run `one_run(work, seed, way)` for each seed and way, and return what is known and where.

    name: of `<out>/<name>.json`, results by "<way>-<seed>", and of <name>.md, the table. Runs that are recorded there
    and not asked for stay.

    text: the module's, shown by --help.

    ways: all there are; `asked` of them by default, or all.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=list(ways), default=list(asked or ways))
    parser.add_argument("--work", type=Path, default=ROOT / ".studies")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    record = given.out / f"{name}.json"
    found: Found = read_json(record) if record.is_file() else {}
    for seed in given.seeds:
        for way in given.ways:
            found[f"{way}-{seed}"] = one_run(given.work, seed, way)
            write_json(record, found)
            write_text(given.out / f"{name}.md", table(found))
    print(table(found))
    return found, given.out
