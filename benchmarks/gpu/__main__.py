"""`make bench-gpu`: time the PPO step on one NVIDIA GPU, against trl 1.12.0 and against the hardware's limits.

    python -m benchmarks.gpu wheels                 # where there is a network: fetch what the GPU machine lacks
    python -m benchmarks.gpu install                # on the GPU machine, without one
    python -m benchmarks.gpu run                    # every piece that has no result yet
    python -m benchmarks.gpu run --piece ours-64 peer-64
    python -m benchmarks.gpu run --dry-run          # all of it on a CPU, in the smallest sizes

GPT-2 small (random weights), 64 to 512 episodes of 128 + 128 tokens, 4 epochs, bfloat16. Each piece takes less than ten
minutes and is stored in benchmarks/results/gpu.json when done, so that a run that is cut off goes on where it was.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.carry import ROOT, SITE, WHEELS, download, install, need_gpu


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    wheels = verbs.add_parser("wheels", help="download what a GPU machine without a network lacks")
    wheels.add_argument("--to", type=Path, default=WHEELS)
    wheels.add_argument("--python", default="3.12", help="the GPU machine's version")
    wheels.add_argument("--also", nargs="*", default=[], help="further wheels, NAME==VERSION")
    put = verbs.add_parser("install", help="put the downloaded wheels where `run` finds them")
    put.add_argument("--wheels", type=Path, default=WHEELS)
    put.add_argument("--site", type=Path, default=SITE)
    run = verbs.add_parser("run", help="measure")
    run.add_argument("--piece", nargs="+", help="only these, by name or by the beginning of it")
    run.add_argument("--again", action="store_true", help="also pieces that have a result")
    run.add_argument("--list", action="store_true", help="only say which pieces there are, and which are done")
    run.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    run.add_argument("--microbatch", type=int, default=64, help="episodes of a pass of the update, for both")
    run.add_argument("--value", choices=["lora", "full"], default="lora", help="the peer's value model")
    run.add_argument("--threads", type=int, default=8)
    run.add_argument("--steps", type=int, default=4, help="the first warms up")
    run.add_argument("--limit-s", type=float, default=540.0, help="for one process")
    run.add_argument("--dry-run", action="store_true", help="on a CPU, in the smallest sizes")
    run.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def measure(given: argparse.Namespace) -> int:
    """Run the pieces asked for, storing each; returns how many failed."""
    sys.path[:0] = [str(SITE)] if SITE.is_dir() else []  # for this process what PYTHONPATH is for its children
    from dataclasses import asdict

    from benchmarks.gpu.pieces import PieceError, Plan, pieces
    from benchmarks.gpu.table import render
    from rlhf.core.artifacts import read_json, write_json, write_text
    from rlhf.core.provenance import library_versions

    dry = given.dry_run
    if not (dry or given.list):
        need_gpu()
    plan = Plan(
        device="cpu" if dry else "cuda", dtype=given.dtype, threads=1 if dry else given.threads,
        steps=2 if dry else given.steps, limit_s=given.limit_s, microbatch=given.microbatch, value=given.value, dry=dry,
    )  # fmt: skip
    path, todo = given.out / "gpu.json", pieces(plan)
    found: dict[str, Any] = read_json(path) if path.is_file() else {"pieces": {}}
    found |= {"plan": asdict(plan), "versions": library_versions()}
    found["shapes"] = {
        name.split("-")[1]: asdict(plan.shape(int(name.split("-")[1]))) for name in todo if "ours" in name
    }
    chosen = [name for name in todo if not given.piece or name.startswith(tuple(given.piece))]
    failures = 0
    for name in chosen:
        done = name in found["pieces"] and not {"failed", "absent"} & set(found["pieces"][name])
        if given.list or (done and not given.again):
            print(f"{name}: {'done' if done else 'to do'}")
            continue
        start = time.perf_counter()
        try:
            result = todo[name]()
        except PieceError as error:
            failures += 1
            result = {"failed": str(error).splitlines()[-1]}
            print(error, file=sys.stderr)
        found["pieces"][name] = {**result, "took_s": time.perf_counter() - start}
        write_json(path, found)
        write_text(given.out / "gpu.md", render(found))
        print(f"{name}: {found['pieces'][name]['took_s']:.0f} s", flush=True)
    if found["pieces"]:
        print(render(found))
    return failures


def main() -> None:
    """Run the verb that was given."""
    given = arguments()
    if given.verb == "wheels":
        download(given.to, python=given.python, also=given.also)
    elif given.verb == "install":
        install(given.wheels, given.site)
    else:
        sys.exit(min(measure(given), 1))


if __name__ == "__main__":
    main()
