"""`make planted`: plant failures in the offline task, run them, and see whether the verdicts name them.

    python -m studies.planted [--processes 2] [--sets judged] [--only kl_off sound] [--collect]

Some fifty scaled-down runs of PPO over four base models: an hour and a half on one quiet core. Everything happens in
--work, where each stage is done once: stopped, it goes on where it was. What verdicts need of each run goes to
benchmarks/results/planted.json, the tables to planted.md. Runs that are recorded there and not asked for stay.
--collect runs nothing: it reads the finished runs of --work and writes the tables anew, as after a change of thresholds
or verdicts.
"""

import argparse
import json
import sys
from functools import partial

from rlhf.core.artifacts import read_json, rounded, write_text
from rlhf.params import resolve
from studies.command import Entry, Found, note_all, options, run_command
from studies.marks import is_made
from studies.planted.plants import Planned, planned
from studies.planted.record import record
from studies.planted.tables import page
from studies.run import ROOT


def chosen(given: argparse.Namespace) -> list[Planned]:
    """Choose the runs of the sets; of these the ones that --only names, in its order."""
    plants = [plant for which in given.sets for plant in planned(which)]
    if not given.only:
        return plants
    return [plant for name in given.only for plant in plants if name in (plant.name, plant.kind.name)]


def main() -> None:
    """Run what is missing and write down the results."""
    parser = options(__doc__, ".planted")
    parser.add_argument("--sets", nargs="+", choices=["calibration", "judged"], default=["calibration", "judged"])
    parser.add_argument("--only", nargs="+", default=[], help="kinds or names of runs, in the order to run them")
    parser.add_argument("--collect", action="store_true", help="run nothing")
    given = parser.parse_args()
    path = given.out / "planted.json"
    found: Found = {run["name"]: run for run in read_json(path)} if path.is_file() else {}
    names = [plant.name for which in ("calibration", "judged") for plant in planned(which)]

    def write(found: Found) -> None:
        runs = [found[name] for name in names if name in found]
        lines = ",\n".join(json.dumps(rounded(run), sort_keys=True) for run in runs)  # a run a line
        write_text(path, f"[\n{lines}\n]\n")

    plans = [(plant, plant.run(given.work)) for plant in chosen(given)]
    entries = {plant.name: Entry((run,), partial(record, plant, run.folder)) for plant, run in plans}
    if given.collect:
        made = {name: entry for name, entry in entries.items() if is_made(entry.runs[0])}
        print(f"{len(made)} of {len(entries)} runs are finished in {given.work}", file=sys.stderr)
        found |= {name: entry.read() for name, entry in made.items()}
        write(found)
    else:
        note_all(entries, found, given.processes, write)
    limits = resolve(ROOT / "params.yaml", ROOT / "profiles").diagnose
    text = page([found[name] for name in names if name in found], limits)
    write_text(given.out / "planted.md", text)
    print(text)


if __name__ == "__main__":
    run_command(main)
