"""What the studies' commands share: their options, one-line errors, and noting results as soon as a run is made."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, write_json, write_text
from rlhf.core.errors import UserError
from studies.run import ROOT, Run
from studies.runner import make

RESULTS = ROOT / "benchmarks" / "results"
Found = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of a study's results: the runs that it needs, and how it is read from them."""

    runs: tuple[Run, ...]
    read: Callable[[], dict[str, Any]]


def options(text: str | None, work: str) -> argparse.ArgumentParser:
    """A parser with the options of all studies. `text` is shown by --help; `work` is the default work folder's name."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=_count, default=1, help="stages at once")
    parser.add_argument(
        "--work", type=lambda path: Path(path).resolve(), default=ROOT / work, help="kept between calls"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results are written")
    return parser


def note_all(entries: dict[str, Entry], found: Found, processes: int, write: Callable[[Found], None]) -> None:
    """Make the entries' runs, and put each entry into `found` and call `write` as soon as its runs are made."""
    made, left = set[Path](), dict(entries)
    for run in make([run for entry in entries.values() for run in entry.runs], processes):
        made.add(run.folder)
        for name in [name for name, entry in left.items() if made.issuperset(run.folder for run in entry.runs)]:
            found[name] = left.pop(name).read()
            write(found)


def run_study(
    name: str,
    text: str | None,
    plan: Callable[[Path, int, str], Entry],
    table: Callable[[Found], str],
    *,
    work: str = ".studies",
    ways: Sequence[str] = (),
    asked: Sequence[str] = (),
) -> tuple[Found, Path]:
    """Read the command line, make what `plan(work, seed, way)` asks for, and return all results and their folder.

    Results are in `<out>/<name>.json`, by "<way>-<seed>" or, of a study without ways, by the seed; the table is in
    <name>.md. Results that are recorded there and not asked for stay.

    ways: all there are; `asked` of them by default, or all.
    """
    parser = options(text, work)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    if ways:
        parser.add_argument("--ways", nargs="+", choices=list(ways), default=list(asked or ways))
    given = parser.parse_args()
    record = given.out / f"{name}.json"
    found: Found = read_json(record) if record.is_file() else {}

    def write(found: Found) -> None:
        write_json(record, found)
        write_text(given.out / f"{name}.md", table(found))

    entries = {
        f"{way}-{seed}" if way else str(seed): plan(given.work, seed, way)
        for seed in given.seeds
        for way in (given.ways if ways else ("",))
    }
    note_all(entries, found, given.processes, write)
    print(table(found))
    return found, given.out


def run_command(main: Callable[[], object]) -> None:
    """Run a study's command: an error of its user is one line, and a stop says that the same command goes on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def span(own: dict[str, Any], name: str, digits: int = 2) -> str:
    """A number with its 95 % interval, where it has one; a dash where there is none."""
    if own.get(name) is None:
        return "–"
    low, high = own.get(f"{name}_low"), own.get(f"{name}_high")
    ends = f" ({low:.{digits}f} to {high:.{digits}f})" if low is not None else ""
    return f"{own[name]:.{digits}f}{ends}"


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {number}; at least 1 is needed")
    return number
