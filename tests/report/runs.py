"""Runs to report on: a stored run of the default parameters with samples made by hand, in a folder of its own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import write_json, write_jsonl, write_text
from rlhf.core.layout import Layout
from rlhf.core.params import check
from rlhf.diagnose.all_verdicts import all_verdicts
from rlhf.diagnose.evidence import Evidence
from rlhf.diagnose.report import markdown as as_text
from rlhf.diagnose.report import metrics
from rlhf.diagnose.verdict import Verdict
from rlhf.report.content import Figure, Report, Section
from rlhf.report.inputs import Inputs, read_inputs
from rlhf.report.params import ReportParams
from tests.diagnose.made import LIMITS

STORED = Path(__file__).with_name("default_run")
GOLDS = [(1.0, 2.0), (1.0, 1.0), (2.0, 1.0), (0.5, 1.5)]  # (SFT, PPO): win, tie, lose, win
PRICES: dict[str, Any] = {
    "samples": 10, "sizes": [1_000_000_000], "labels": [2000], "currency": "EUR", "price_gpu_hour": 3.0,
    "gpu_tflops": 100.0, "gpu_utilisation": 0.5, "price_per_comparison": 0.25,
}  # fmt: skip


def prices(**changes: object) -> ReportParams:
    return check(ReportParams, PRICES | changes, where="test")


def undrawn(report: Report) -> Report:
    """The report with figures of which nothing is drawn, which takes no time: all around them stays."""

    def blank() -> str:
        return "<svg></svg>"

    def without(section: Section) -> Section:
        bare = [replace(block, draw=blank) if isinstance(block, Figure) else block for block in section.blocks]
        return replace(section, blocks=bare)

    return replace(report, sections=[without(section) for section in report.sections])


def sample(number: int, sft: float, ppo: float) -> dict[str, object]:
    row: dict[str, object] = {"prompt": f"\n\nHuman: Question {number} & <b>bold</b>?\n\nAssistant:"}
    for name, gold in (("base", 0.0), ("sft", sft), ("ppo", ppo)):
        row |= {
            name: f" {name} answer {number}",
            f"{name}_ended": name != "base",
            f"{name}_reward": gold / 2,
            f"{name}_gold": gold,
        }
    return row


class Run:
    """A project folder with the results of a run; `change` edits metrics, `drop` removes files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.at = folder, Layout(folder)
        for name in ("metrics", "plots", "provenance", "profiles"):
            shutil.copytree(STORED / name, folder / name)
        self.resolved: dict[str, Any] = json.loads((STORED / "params.resolved.json").read_text())
        write_jsonl(self.at.evaluate / "samples.jsonl", [sample(k, *golds) for k, golds in enumerate(GOLDS)])

    def change(self, stage: str, **values: object) -> None:
        path = self.at.metrics(stage)
        write_json(path, (json.loads(path.read_text()) if path.is_file() else {}) | values)

    def diagnose(self, evidence: Evidence) -> list[Verdict]:
        """Leave what the stage diagnose would say of `evidence`."""
        verdicts = all_verdicts(evidence, LIMITS, self.resolved)
        write_text(self.at.verdicts, as_text(verdicts))
        write_json(self.at.metrics("diagnose"), metrics(verdicts))
        return verdicts

    def metrics(self, stage: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.at.metrics(stage).read_text())
        return found

    def drop(self, *patterns: str) -> None:
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                path.unlink()

    def read(self) -> Inputs:
        costs = self.folder / "stages.json"
        return read_inputs(self.at, self.resolved, profiles=self.folder / "profiles", costs=costs)
