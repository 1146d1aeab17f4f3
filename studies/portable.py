"""`make portable`: one scaled-down chain of all stages, on this processor and on others, emulated: the same bytes?

    python -m studies.portable [--processors native Haswell-v4 EPYC-Milan-v1] [--processes 2] [--work .portable]

Other processors are emulated by `qemu-x86_64` (Debian and Ubuntu: `apt install qemu-user`; `qemu-x86_64 -cpu help`
lists them), 50 to 100 times slower than the machine: an hour or more; killed, the same command goes on. AVX-512 is not
emulated: on a machine that has it, `native` is the test of that. The table of SHA-256 hashes, a row a stage, goes to
benchmarks/results/portable.{json,md}. Status 1 where a file differs: the first one is named, with its first tensor or
key.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import load_tensors, sha256_file, write_json, write_text
from rlhf.core.costs import machine
from rlhf.core.errors import UserError
from rlhf.core.portable import unsupported
from studies.command import options, run_command
from studies.run import Run, project_stages
from studies.runner import make

EMULATOR = "qemu-x86_64"
NATIVE = "native"
PROCESSORS = (NATIVE, "Haswell-v4", "EPYC-Milan-v1")
KINDS = ("artifacts", "metrics", "plots")  # provenance tells of the machine, and the report of times: they differ
SCALED: dict[str, object] = {
    "runtime.portable": True,
    "data.synthetic.prompts": 80,
    "data.synthetic.ood_prompts": 10,
    "data.synthetic.corpus_documents": 400,
    "base.pretrain.steps": 20,
    "base.pretrain.eval_every": 10,
    "base.pretrain.batch_size": 4,
    "sft.epochs": 1,
    "sft.max_examples": 80,
    "sft.batch_size": 8,
    "sft.eval_examples": 10,
    "sft.samples": 2,
    "reward.epochs": 2,
    "reward.normalise_prompts": 10,
    "ppo.iterations": 2,
    "ppo.batch": 8,
    "ppo.minibatch": 4,
    "offline.dpo.run": True,
    "offline.shared.max_examples": 32,
    "offline.shared.eval_examples": 5,
    "evaluate.prompts": 10,
    "evaluate.ood_prompts": 4,
    "evaluate.exact_kl_prompts": 2,
    "evaluate.samples": 2,
    "evaluate.probes": 4,
    "evaluate.tax.documents": 10,
    **dict.fromkeys(("ppo.response_tokens", "sft.sample_tokens", "reward.response_tokens"), 12),
    **dict.fromkeys(("evaluate.response_tokens", "offline.shared.response_tokens"), 12),
}
Hashes = dict[str, dict[str, str]]  # of each stage: SHA-256 by file


def plan(work: Path, processor: str) -> Run:
    """Plan the chain on a processor: the machine's own, or one that is emulated.

    Raises:
        UserError: there is no emulator.
    """
    stages = tuple(name for name in project_stages() if name != "resolve")
    if processor == NATIVE:
        return Run(work / NATIVE, SCALED, stages, measured=True)
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        raise UserError(
            f"--processors {processor}: no {EMULATOR} on PATH; Debian and Ubuntu have it in the package qemu-user "
            f"(apt install qemu-user); allowed without it: {NATIVE}"
        )
    return Run(work / processor, SCALED, stages, under=(emulator, "-cpu", processor))


def hashes(run: Run) -> Hashes:
    """Hash every artifact, metric and curve that the run's stages wrote."""
    found: Hashes = {}
    for stage in run.stages:
        outs = [run.folder / out for out in run.outs(stage) if out.parts[0] in KINDS]
        paths = [path for out in outs for path in ([out] if out.is_file() else sorted(out.rglob("*")))]
        found[stage] = {p.relative_to(run.folder).as_posix(): sha256_file(p) for p in paths if p.is_file()}
    return found


def first_difference(first: Path, second: Path) -> str:
    """Say where two files begin to differ: a tensor and how far, a key, or a line."""
    if first.suffix == ".safetensors":
        one, other = load_tensors(first), load_tensors(second)
        if one.keys() != other.keys():  # whose order is not that of the file, and not the same twice
            return "other tensors"
        name = next((name for name in sorted(one) if not one[name].equal(other[name])), None)
        if name is None:
            return "the same tensors, written otherwise"
        if one[name].shape != other[name].shape:
            return f"tensor {name}: another shape"
        return f"tensor {name}: {float((one[name].double() - other[name].double()).abs().max()):.3g} apart"
    lines = [path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (first, second)]
    number = next((i for i, (a, b) in enumerate(zip(*lines, strict=False)) if a != b), min(map(len, lines)))
    shown = [json.dumps(text[number][:60]) if number < len(text) else "the end" for text in lines]
    return f"line {number + 1}: {shown[0]} and {shown[1]}"


def compare(runs: Sequence[Run]) -> list[str]:
    """Name, for each other run, the first file in the chain's order that differs from the first run's."""
    first, *others = runs
    found: list[str] = []
    for other in others:
        own, theirs = hashes(first), hashes(other)
        for stage in first.stages:
            names = sorted(own[stage].keys() | theirs[stage].keys())
            name = next((name for name in names if own[stage].get(name) != theirs[stage].get(name)), None)
            if name is not None:
                where = "is in one of them alone"
                if name in own[stage] and name in theirs[stage]:
                    where = first_difference(first.folder / name, other.folder / name)
                found.append(f"{other.folder.name}: differs first at stage {stage}, {name}, {where}")
                break
    return found


def table(by_processor: dict[str, Hashes]) -> str:
    """Render a row a stage: files, and for each processor the first 12 digits of the hash over them."""
    rows = [f"| stage | files | {' | '.join(by_processor)} |", "|---|---|" + "---|" * len(by_processor)]
    first = next(iter(by_processor.values()))
    for stage, files in first.items():
        digests = [_digest(own[stage])[:12] for own in by_processor.values()]
        rows.append(f"| {stage} | {len(files)} | {' | '.join(digests)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = options(__doc__, ".portable")
    parser.add_argument("--processors", nargs="+", default=list(PROCESSORS), help="native, or as the emulator has them")
    given = parser.parse_args()
    if (why := unsupported()) is not None:
        raise UserError(f"runtime.portable: {why}")
    runs = [plan(given.work, processor) for processor in given.processors]
    for _ in make(runs, given.processes):
        pass
    found = {run.folder.name: hashes(run) for run in runs}
    different = compare(runs)
    record: dict[str, Any] = {"machine": machine(), "different": different, "files": found}
    write_json(given.out / "portable.json", record)
    write_text(given.out / "portable.md", table(found))
    print(table(found))
    print("\n".join(different) or f"the same bytes on {len(runs)} processors")
    sys.exit(1 if different else 0)


def _digest(files: dict[str, str]) -> str:
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


if __name__ == "__main__":
    run_command(main)
