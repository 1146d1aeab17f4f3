"""`make planted`: plant failures in the offline task, run them, and see whether the verdicts name them.

    python -m studies.planted [--processes 2] [--sets judged] [--only kl_off sound] [--collect]

Some fifty scaled-down runs of PPO over four base models: an hour and a half on one quiet core. Everything happens in
--work, where each stage is done once: stopped, it goes on where it was. (Delete the folder after changing code of the
stages.) What verdicts need of each run goes to benchmarks/results/planted.json, the tables to planted.md; --collect
does only that, as after a change of thresholds or verdicts.
"""

import argparse
import json
from pathlib import Path

from rlhf.core.artifacts import rounded, write_text
from rlhf.params import resolve
from studies.planted.plants import Planned, planned
from studies.planted.record import record
from studies.planted.runner import ROOT, finished, run_all
from studies.planted.tables import page

RESULTS = ROOT / "benchmarks" / "results"


def chosen(given: argparse.Namespace) -> list[Planned]:
    """The runs of the sets; of these the ones that --only names, in its order."""
    runs = [run for which in given.sets for run in planned(which)]
    if not given.only:
        return runs
    return [run for name in given.only for run in runs if name in (run.name, run.kind.name)]


def main() -> None:
    """Run what is missing, then write the results of all runs that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=["calibration", "judged"], default=["calibration", "judged"])
    parser.add_argument("--only", nargs="+", default=[], help="kinds or names of runs, in the order to run them")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--collect", action="store_true", help="run nothing")
    parser.add_argument("--work", type=Path, default=ROOT / ".planted")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if not given.collect:
        run_all(given.work, chosen(given), given.processes)
    both = [*planned("calibration"), *planned("judged")]
    runs = [record(run, given.work / run.name) for run in both if finished(given.work, run)]
    lines = ",\n".join(json.dumps(rounded(run), sort_keys=True) for run in runs)  # a run a line
    write_text(given.out / "planted.json", f"[\n{lines}\n]\n")
    text = page(runs, resolve(ROOT / "params.yaml", ROOT / "profiles").diagnose)
    write_text(given.out / "planted.md", text)
    print(text)


if __name__ == "__main__":
    main()
