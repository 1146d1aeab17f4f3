"""`make repro-gpu`: run the real stages at full scale on one NVIDIA GPU, one after the other, each timed.

    python -m benchmarks.repro_gpu                              # every stage that has not run yet
    python -m benchmarks.repro_gpu --piece sft                  # this one, or on with it where it was stopped
    python -m benchmarks.repro_gpu --model /data/gpt2 --pairs /data/hh-helpful-base
    python -m benchmarks.repro_gpu --set runtime.dtype=bfloat16 --set ppo.microbatch=128
    python -m benchmarks.repro_gpu --dry-run                    # all of it on a CPU, in the smallest sizes

Profile gpt2: GPT-2 of 124M parameters and some 38,000 pairs. Without paths both are made up: random weights, and pairs
as long as those of HH helpful-base. No DVC is needed. Each stage is a piece; one that is not done after --limit-s is
stopped cleanly, and the next call goes on with it. Times go to benchmarks/results/repro-gpu.json. The work folder
(.gpu/repro) keeps models and checkpoints between calls; --fresh empties it.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.carry import FOLDER, ROOT, SITE, need_gpu

STAGES = ("make", "resolve", "prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate")  # in order
PAIRS = 40_700  # so that some 38,000 are left of at most 512 tokens
GPT2 = {"layers": 12, "width": 768, "heads": 12, "vocab": 50257, "context": 1024}
MICRO = {"layers": 2, "width": 32, "heads": 2, "vocab": 256, "context": 128}
DRY = {
    "runtime.device": "cpu", "data.min_tokens": 2, "data.max_tokens": 100, "sft.max_examples": 32,
    "sft.eval_every": 2, "sft.eval_examples": 8, "sft.warmup_steps": 1, "sft.samples": 4, "sft.sample_tokens": 8,
    "reward.epochs": 2, "reward.batch_tokens": 2048, "reward.normalise_prompts": 16, "reward.response_tokens": 8,
    "ppo.iterations": 2, "ppo.batch": 8, "ppo.minibatch": 4, "ppo.microbatch": 4, "ppo.response_tokens": 8,
    "ppo.max_prompt_tokens": 80, "ppo.logged_episodes": 4, "evaluate.prompts": 8, "evaluate.response_tokens": 8,
    "evaluate.batch_size": 8, "evaluate.batch_tokens": 2048, "evaluate.exact_kl_prompts": 4, "evaluate.samples": 4,
}  # fmt: skip
SHOWN = ("prepare_rows_kept", "base_parameters", "sft_best_step", "sft_perplexity_after", "reward_accuracy")
SHOWN += ("ppo_iterations", "ppo_stop_reason", "ppo_score_final", "ppo_kl_final", "ppo_length_final", "eval_prompts")
STOPPED = 130  # exit status of a stage that was told to stop and saved


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--piece", nargs="+", choices=STAGES, help="only these")
    parser.add_argument("--model", type=Path, help="folder with the base model; made up where none is given")
    parser.add_argument("--pairs", type=Path, help="file or folder of preferences; made up where none is given")
    parser.add_argument("--format", choices=["hh", "pairs"], default="hh", help="of --pairs")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="other parameters")
    parser.add_argument("--limit-s", type=float, default=540.0, help="after which a stage is stopped, to be resumed")
    parser.add_argument("--fresh", action="store_true", help="empty the work folder first")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, in the smallest sizes")
    parser.add_argument("--work", type=Path, help="work folder; .gpu/repro where none is given")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def changes(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """List what this run sets in params.yaml."""
    from benchmarks.repro_gpu.workspace import parsed

    model, pairs = given.model or work / "made" / "model", given.pairs or work / "made" / "pairs.jsonl"
    own: dict[str, Any] = {
        "profile": "gpt2", "runtime.device": "cuda", "data.source": "files", "data.path": str(pairs.resolve()),
        "data.format": given.format if given.pairs else "pairs", "base.source": "path",
        "base.path": str(model.resolve()),
    }  # fmt: skip
    if not given.pairs:
        own["data.prompt_template"] = "{prompt}"
    return own | (DRY if given.dry_run else {}) | parsed(given.set)


def make_inputs(given: argparse.Namespace, work: Path) -> None:
    """Make the model and the pairs that no path was given for, once."""
    from benchmarks.repro_gpu.made_up import write_model, write_pairs

    shape, made = (MICRO if given.dry_run else GPT2), work / "made"
    if not given.model and not (made / "model" / "tokenizer.json").is_file():
        write_model(made / "model", **shape)
    if not given.pairs and not (made / "pairs.jsonl").is_file():
        count, shrink = (240, 8) if given.dry_run else (PAIRS, 1)
        write_pairs(made / "pairs.jsonl", count, vocab=shape["vocab"], shrink=shrink)


def run_stage(stage: str, work: Path, limit_s: float) -> tuple[int, float]:
    """Run a stage and give its exit status and seconds; at the limit it is asked to stop, and saves."""
    path = os.pathsep.join([str(SITE)] * SITE.is_dir() + [str(work)] + [os.environ.get("PYTHONPATH", "")]).strip(
        os.pathsep
    )
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", f"stages.{stage}"], cwd=work, env=environment) as process:
        try:
            status = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            status = process.wait()
    return status, time.perf_counter() - start


def numbers(work: Path, stage: str) -> dict[str, Any]:
    """Read the metrics that show whether a stage did what it should have."""
    from rlhf.core.artifacts import read_json

    path = work / "metrics" / f"{stage}.json"
    return {key: value for key, value in (read_json(path) if path.is_file() else {}).items() if key in SHOWN}


def measure(given: argparse.Namespace) -> int:
    """Run the pieces asked for, in order; returns an exit status."""
    from benchmarks.repro_gpu.workspace import prepare_workspace
    from rlhf.core.artifacts import read_json, write_json

    if changes(given, Path())["runtime.device"] == "cuda":
        need_gpu()
    work = (given.work or FOLDER / ("repro-dry" if given.dry_run else "repro")).resolve()
    if given.fresh:
        shutil.rmtree(work, ignore_errors=True)
    prepare_workspace(work, changes(given, work))
    record, status = work / "times.json", 0
    times: dict[str, Any] = read_json(record) if record.is_file() else {}
    for stage in chosen(given, times):
        own = times.get(stage, {"seconds": 0.0, "calls": 0, "done": False})
        if stage == "make":
            start = time.perf_counter()
            make_inputs(given, work)
            seconds = time.perf_counter() - start
        else:
            status, seconds = run_stage(stage, work, given.limit_s)
        before = 0.0 if own["done"] else own["seconds"]
        own = {"seconds": before + seconds, "calls": own["calls"] + 1, "done": status == 0, **numbers(work, stage)}
        times[stage] = own
        write_json(record, times)
        report(given, times)
        print(f"{stage}: {own['seconds']:.1f} s{'' if own['done'] else ', not done yet'}", flush=True)
        if status:
            again = "it was stopped at its limit; call again to go on" if status == STOPPED else f"exit status {status}"
            print(f"{stage}: {again}", file=sys.stderr)
            return status
    print(f"all stages: {sum(own['seconds'] for name, own in times.items() if name != 'make'):.1f} s")
    return 0


def chosen(given: argparse.Namespace, times: dict[str, Any]) -> list[str]:
    """Choose the pieces asked for, or those not done yet; always with resolve, so that what --set says holds."""
    undone = {stage for stage in STAGES if not times.get(stage, {}).get("done")}
    return [stage for stage in STAGES if stage == "resolve" or stage in (given.piece or undone)]


def report(given: argparse.Namespace, times: dict[str, Any]) -> None:
    """Write repro-gpu.json: the times so far, of what, and on what."""
    import torch

    from rlhf.core.artifacts import write_json
    from rlhf.core.provenance import library_versions

    about = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and not given.dry_run else "cpu",
        "versions": library_versions(),
        "model": "by path" if given.model else "made up",
        "pairs": "by path" if given.pairs else "made up, lengths of HH helpful-base",
        "set": given.set,
        "dry_run": given.dry_run,
        "stages": times,
        "stages_seconds": sum(own["seconds"] for name, own in times.items() if name != "make"),
        "complete": all(times.get(stage, {}).get("done") for stage in STAGES),
    }
    write_json(given.out / "repro-gpu.json", about)


def main() -> None:
    """Run the command; bad input is one line."""
    sys.path[:0] = [str(SITE)] if SITE.is_dir() else []
    from rlhf.core.errors import UserError

    try:
        sys.exit(measure(arguments()))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
