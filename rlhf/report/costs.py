"""Report the cost of the run as measured, and estimate it at other sizes."""

from collections.abc import Mapping
from typing import Any

from rlhf.core.costs import settings_hash
from rlhf.report.content import Block, Section, Table, Text
from rlhf.report.cost_model import Work, compute_rows, work
from rlhf.report.draw import Labels, bars
from rlhf.report.inputs import Inputs
from rlhf.report.params import ReportParams
from rlhf.report.wording import show

SWITCHED_OFF = 3.0  # seconds: a repeated stage (name@item) that took less was not asked to do anything
ORDER = ("resolve", "prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate")


def costs(run: Inputs) -> Section:
    """Show time, memory and energy of each stage, and say whether they were measured in this run."""
    title = "What it cost"
    stages: Mapping[str, Mapping[str, Any]] = {
        name: stage
        for name, stage in (run.costs or {}).get("stages", {}).items()
        if "@" not in name or float(stage["wall_s"]) >= SWITCHED_OFF
    }
    if not stages or run.costs is None:
        return Section("costs", title, [Text("Nothing was measured: run the stages, then `make costs`.")])
    names = [name for name in ORDER if name in stages] + sorted(set(stages) - set(ORDER))
    texts = [_measured(run.costs, names), _energy(stages), _belongs(run, names, stages)]
    rows = [
        (
            name,
            duration(float(stages[name]["wall_s"])),
            duration(float(stages[name]["cpu_s"])),
            _mb(stages[name], "peak_memory_mb"),
            _mb(stages[name], "gpu_peak_memory_mb"),
            _kj(stages[name]),
        )
        for name in names
    ]
    head = ("stage", "time", "processor time", "peak memory", "peak GPU memory", "energy")
    minutes = [float(stages[name]["wall_s"]) / 60 for name in names]
    return Section(
        "costs",
        title,
        [
            *[Text(text) for text in texts if text],
            Table(head, rows, "Costs of each stage; – could not be measured or was not used"),
            bars(names, minutes, Labels("time", "minutes", "", "Time of each stage")),
        ],
    )


def _measured(costs: Mapping[str, Any], names: list[str]) -> str:
    machine = costs.get("machine", {})
    total = sum(float(costs["stages"][name]["wall_s"]) for name in names)
    gpus = ", ".join(machine.get("gpus", [])) or "no GPU"
    return (
        f"Measured on {machine.get('cores')} cores of {machine.get('processor')} with {machine.get('memory_gb')} GB of "
        f"memory, {gpus}: {duration(total)} in all. Time is from a stage's start to its end, beside whatever else ran "
        "there; memory is the largest resident set of its process."
    )


def _belongs(run: Inputs, names: list[str], stages: Mapping[str, Mapping[str, Any]]) -> str:
    """Say whether the costs were measured with this run's parameters, and whole."""
    other = [
        name for name in names if settings_hash(run.resolved, stages[name]["sections"]) != stages[name]["settings"]
    ]
    resumed = [name for name in names if stages[name].get("resumed")]
    said = []
    if other:
        said.append(f"These costs are those of a run with other parameters in {', '.join(other)}.")
    if resumed:
        said.append(f"{', '.join(resumed)} had been stopped and resumed: only the last part is counted.")
    return " ".join(said) or "All stages were measured whole, with this run's parameters."


def _energy(stages: Mapping[str, Mapping[str, Any]]) -> str:
    if any(stage.get("cpu_energy_j") is not None or stage.get("gpu_energy_j") is not None for stage in stages.values()):
        return (
            "Energy is the difference of the counters of processor packages (RAPL) and of the GPUs used (NVML), their "
            "idle power and whatever else ran on them included: an upper bound."
        )
    return "Energy could not be read: this machine shows no RAPL counter and no GPU counter."


def _mb(stage: Mapping[str, Any], name: str) -> str:
    value = stage.get(name)
    return "–" if value is None else f"{value / 1000:.2f} GB" if value >= 1000 else f"{value:.0f} MB"


def _kj(stage: Mapping[str, Any]) -> str:
    known = [value for name in ("cpu_energy_j", "gpu_energy_j") if (value := stage.get(name)) is not None]
    return f"{sum(known) / 1000:.2f} kJ" if known else "–"


def duration(seconds: float) -> str:
    """Format a duration: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def sizes(run: Inputs, params: ReportParams) -> Section:
    """Estimate the cost of the same run with other models and with more labels."""
    title = "What the same would cost at other sizes"
    works = work(run.resolved, run.numbers)
    if not works:
        return Section("sizes", title, [Text("Too little was measured for an estimate.")])
    blocks: list[Block] = [
        Text(
            "An estimate, not a measurement. Reading a token costs 2 operations a parameter, learning from it with a "
            "frozen base 4 (Kaplan et al. 2020, arXiv 2001.08361): operations = parameters × (2 × tokens read + 4 × "
            f"tokens learnt). Hours = operations ÷ ({params.gpu_tflops:g}·10¹² a second × {params.gpu_utilisation:g} "
            f"utilisation) ÷ 3600, at {params.price_gpu_hour:g} {params.currency} an hour. Sampling one token at a "
            "time uses a GPU less well than that, so small batches will cost more. Speed and prices are assumptions: "
            "the section `report` of params.yaml."
        )
    ]
    rows = [(one.stage, f"{one.read:,.0f}", f"{one.learned:,.0f}") for one in works]
    blocks.append(
        Table(
            ("stage", "tokens read", "tokens learnt"),
            rows,
            "Tokens of this run, with median lengths; pretraining left out",
        )
    )
    return Section("sizes", title, [*blocks, _by_size(run, works, params), _by_labels(run, params)])


def _by_size(run: Inputs, works: list[Work], params: ReportParams) -> Table:
    own = run.numbers.number("base_parameters")
    counts = sorted({*params.sizes, *([int(own)] if own else [])})
    rows = [
        (
            f"{size:,}" + (" (this run)" if size == own else ""),
            f"{operations:.2g}",
            _hours(hours),
            _price(price, params.currency),
        )
        for size, operations, hours, price in compute_rows(works, counts, params)
    ]
    head = ("parameters", "operations", "GPU-hours", "price")
    return Table(head, rows, "The same tokens with models of other sizes")


def _by_labels(run: Inputs, params: ReportParams) -> Table:
    pairs = sum(int(run.numbers.number(f"prepare_pairs_{split}") or 0) for split in ("train", "validation", "test"))
    rows = [
        (
            f"{count:,}" + (" (this run)" if count == pairs else ""),
            _price(count * params.price_per_comparison, params.currency),
        )
        for count in sorted({*params.labels, pairs})
    ]
    caption = f"Comparisons, if people made them at {params.price_per_comparison:g} {params.currency} each"
    return Table(("comparisons", "price"), rows, caption)


def _hours(hours: float) -> str:
    return f"{hours:.1e}" if hours < 0.01 else show(hours)


def _price(price: float, currency: str) -> str:
    if 0 < price < 0.01:
        return f"under 0.01 {currency}"
    return f"{price:,.{0 if price >= 100 else 2}f} {currency}"
