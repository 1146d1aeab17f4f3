"""`make costs`: gather .costs/*.json, what each stage's last run cost here, into benchmarks/results/stages.json.

Times are kept to three significant digits. The report stage reads the file; commit it with the run that it belongs to.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main(root: Path = ROOT) -> None:
    """Write the file, or say what is missing."""
    files = sorted((root / ".costs").glob("*.json"))
    if not files:
        sys.exit(".costs: nothing recorded yet; a stage writes there when it has run (dvc repro -f runs all)")
    target = root / "benchmarks" / "results" / "stages.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    found = gather({path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files})
    target.write_text(json.dumps(found, sort_keys=True, indent=2) + "\n", encoding="utf-8")


def gather(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One machine and its stages.

    Raises:
        SystemExit: the stages ran on several machines: their sum would mean nothing.
    """
    machines = {json.dumps(record["machine"] | {"gpus": []}, sort_keys=True) for record in records.values()}
    if len(machines) > 1:
        sys.exit(f".costs: {len(machines)} different machines; remove the files of all but one, or run all stages anew")
    gpus = {gpu for record in records.values() for gpu in record["machine"]["gpus"]}
    stages = {
        name: {key: rounded(value) for key, value in record.items() if key != "machine"}
        for name, record in records.items()
    }
    return {"machine": json.loads(machines.pop()) | {"gpus": sorted(gpus)}, "stages": stages}


def rounded(value: Any) -> Any:
    """Floats to three significant digits."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
