"""Load whatever a run has left; every file is optional."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, read_jsonl
from rlhf.core.curves import read_rows
from rlhf.core.layout import Layout
from rlhf.core.yaml import read_yaml
from rlhf.report.wording import Numbers

ORDER = ("base", "sft", "reward", "ppo")  # of provenance; other stages come after
OWN = "report"  # this stage's own name: its outputs are no inputs

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that the report is made from. Missing parts are empty or None."""

    resolved: Mapping[str, Any]
    profile: Mapping[str, Any]
    numbers: Numbers
    curves: Mapping[str, list[Row]]
    provenance: Mapping[str, Mapping[str, Any]]
    compared: list[dict[str, str]]  # plots/compare.csv, a row a policy
    samples: list[dict[str, Any]]
    learned: Any
    diagnosis: str  # Markdown, as the stage diagnose writes it
    costs: Mapping[str, Any] | None
    files: list[Path]

    def curve(self, name: str, *columns: str) -> list[Row]:
        """Return the rows of plots/<name>.csv that have a number in all of these columns."""
        return [row for row in self.curves.get(name, []) if all(column in row for column in columns)]


def read_inputs(at: Layout, resolved: Mapping[str, Any], *, profiles: Path, costs: Path) -> Inputs:
    """Read metrics, curves, provenance, samples, findings and costs.

    Raises:
        UserError: a file exists but cannot be read.
    """
    metrics, plots, provenance = (_files(at, *where) for where in _FOLDERS)
    profile = profiles / f"{resolved['profile']}.yaml"
    parts = {
        "samples": at.evaluate / "samples.jsonl",
        "learned": at.artifacts / "reward_learned.json",
        "diagnosis": at.artifacts / "diagnose.md",
    }
    values = {name: value for path in metrics.values() for name, value in read_json(path).items()}
    return Inputs(
        resolved=resolved,
        profile=read_yaml(profile) if profile.is_file() else {},
        numbers=Numbers(values),
        curves={name: [_numeric(row) for row in read_rows(path)] for name, path in plots.items()},
        provenance={name: read_json(provenance[name]) for name in _ordered(provenance)},
        compared=read_rows(plots["compare"]) if "compare" in plots else [],
        samples=read_jsonl(parts["samples"]) if parts["samples"].is_file() else [],
        learned=read_json(parts["learned"]) if parts["learned"].is_file() else None,
        diagnosis=parts["diagnosis"].read_text(encoding="utf-8") if parts["diagnosis"].is_file() else "",
        costs=read_json(costs) if costs.is_file() else None,
        files=[
            profile,
            costs,
            at.evaluate,
            *metrics.values(),
            *plots.values(),
            *provenance.values(),
            parts["learned"],
            parts["diagnosis"],
        ],
    )


_FOLDERS = (("metrics", ".json"), ("plots", ".csv"), ("provenance", ".json"))


def _files(at: Layout, folder: str, ending: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((at.root / folder).glob(f"*{ending}")) if path.stem != OWN}


def _ordered(names: Mapping[str, Path]) -> list[str]:
    return [name for name in ORDER if name in names] + [name for name in names if name not in ORDER]


def _numeric(row: Mapping[str, str]) -> Row:
    """Keep the cells that hold a number."""
    found = {}
    for name, cell in row.items():
        try:
            found[name] = float(cell)
        except (TypeError, ValueError):
            continue
    return found
