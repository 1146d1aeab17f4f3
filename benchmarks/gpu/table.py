"""Render gpu.md from gpu.json, from whatever pieces are there."""

from typing import Any

from benchmarks.gpu.limits import Peak, peak_of, work_of
from benchmarks.workload import Shape

GOAL = 10.0  # times as fast as the peer
_HEAD = (
    "| episodes | who | rollout s | scoring s | update s | total s | rollout tokens/s | update tokens/s "
    "| rollout: of the memory limit | update: of the arithmetic limit | peak GB | ratio (goal) |"
)


def render(found: dict[str, Any]) -> str:
    """Render all pieces that have a result in Markdown."""
    pieces = found["pieces"]
    limits = pieces.get("limits", {})
    peak = peak_of(str(limits.get("device", "")))
    parts = [_about(found, limits, peak), _steps(found, limits, peak), _same_seed(pieces)]
    failed = [f"- {name}: {own['failed']}" for name, own in pieces.items() if "failed" in own]
    if failed:
        parts.append("Failed:\n\n" + "\n".join(failed))
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(found: dict[str, Any], limits: dict[str, Any], peak: Peak | None) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items() if value)
    text = f"{limits.get('device', 'device not measured yet')}; {versions}; {found['plan']['dtype']}, medians. In "
    text += (
        "bfloat16 our rollout holds the pass that computes its logprobs anew. Part of the ratio is architecture: the "
    )
    text += "peer trains a second model for values, here a value head sits on the policy.\n\n"
    if not limits:
        return text.strip()
    text += "| limit | bfloat16 TFLOP/s | float32 TFLOP/s | memory GB/s |\n|---|---|---|---|\n"
    if peak:
        text += f"| {peak.source} | {peak.bfloat16_tflops:.4g} | {peak.float32_tflops:.4g} | {peak.memory_gb_s:.4g} |\n"
    rates = (limits["bfloat16_tflops"], limits["float32_tflops"], limits["memory_gb_s"])
    return text + "| measured here | " + " | ".join(f"{rate:.3g}" for rate in rates) + " |\n\n" + (
        f"A kernel launch takes {limits['launch_us']:.2g} µs. Shares are of the data sheet's limits, in brackets of "
        "the measured ones: the least bytes (weights once a decoded token, keys and values) and the least FLOP (2 a "
        "weight and token, no weight gradients) over the time."
    )  # fmt: skip


def _steps(found: dict[str, Any], limits: dict[str, Any], peak: Peak | None) -> str:
    pieces = found["pieces"]
    batches = sorted({int(name.split("-")[1]) for name in pieces if name.startswith(("ours-", "peer-"))})
    lines = [_HEAD, "|---" * 12 + "|"]
    for batch in batches:
        for who in ("peer", "ours"):
            own = pieces.get(f"{who}-{batch}", {})
            if "median" in own:
                lines.append(_row(found, who, batch, limits, peak))
            elif "absent" in own:
                lines.append(f"| {batch} | {who} | {own['absent']} |" + " |" * 9)
    return "\n".join(lines) if len(lines) > 2 else ""


def _row(found: dict[str, Any], who: str, batch: int, limits: dict[str, Any], peak: Peak | None) -> str:
    own = found["pieces"][f"{who}-{batch}"]
    shape, seconds = Shape(**found["shapes"][str(batch)]), own["median"]
    times = " | ".join(f"{seconds[part]:.3g}" for part in ("rollout", "scoring", "update", "total"))
    sampled = batch * shape.response / seconds["rollout"]
    learnt = shape.epochs * batch * (shape.prompt + shape.response) / seconds["update"]
    half = found["plan"]["dtype"] == "bfloat16"
    work = work_of(shape, width=2 if half else 4, rescored=half and who == "ours")
    name = "bfloat16_tflops" if half else "float32_tflops"
    memory = _share(work.rollout_bytes / seconds["rollout"] / 1e9, peak and peak.memory_gb_s, limits.get("memory_gb_s"))
    maths = _share(work.update_flops / seconds["update"] / 1e12, peak and getattr(peak, name), limits.get(name))
    other = found["pieces"].get(f"peer-{batch}", {})
    ratio = (
        f"**{other['median']['total'] / seconds['total']:.1f}** ({GOAL:g})"
        if who == "ours" and "median" in other
        else ""
    )
    space = own.get("peak_gpu_gb", own.get("peak_rss_gb"))
    return (
        f"| {batch} | {who} | {times} | {sampled:,.0f} | {learnt:,.0f} | {memory} | {maths} | {space:.2f} | {ratio} |"
    )


def _share(rate: float, sheet: float | None, measured: float | None) -> str:
    first = f"{rate / sheet:.1%}" if sheet else "–"
    return f"{first} ({rate / measured:.1%})" if measured else first


def _same_seed(pieces: dict[str, Any]) -> str:
    rows = [(name.removeprefix("same-seed-"), own) for name, own in pieces.items() if name.startswith("same-seed-")]
    lines = [
        "Same seed twice, in two processes:\n",
        "| precision | bytes equal | largest difference of a weight | relative | of a logprob, nats | other tokens |",
        "|---|---|---|---|---|---|",
    ]
    for dtype, own in rows:
        if "bitwise" in own:
            gaps = [
                own[f"{key}"]
                for key in ("weights_largest_difference", "weights_relative", "logprobs_largest_difference")
            ]
            cells = " | ".join(f"{gap:.2g}" for gap in gaps)
            lines.append(
                f"| {dtype} | {'yes' if own['bitwise'] else 'no'} | {cells} | {own['tokens_that_differ']:.2%} |"
            )
    return "\n".join(lines) if len(lines) > 3 else ""
