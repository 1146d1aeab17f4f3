"""`make deps`: write each stage's import closure into its `deps` in dvc.yaml; data dependencies stay as they are.

python tools/sync_deps.py [--check]
"""

import sys
from pathlib import Path
from typing import Any

import grimp
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]


def closure(graph: grimp.ImportGraph, stage: str) -> list[str]:
    """The project's files that `python -m stages.<stage>` can import, imports inside functions included."""
    module = f"stages.{stage}"
    names = graph.find_upstream_modules(module) | {module}
    files = [Path(*name.split(".")).with_suffix(".py").as_posix() for name in names]
    return sorted(file for file in files if (ROOT / file).is_file())  # packages' own __init__.py hold no code


REPORT = "report"  # reads what all others have written for people, and all parameters
FINDINGS = ("artifacts/evaluate", "artifacts/reward_learned.json", "artifacts/diagnose.md")


def written(stages: dict[str, Any]) -> list[str]:
    """What the report reads of other stages: all that is kept in git, and the findings among the rest."""
    found = set()
    for name, stage in stages.items():
        body, items = stage.get("do", stage), stage.get("foreach", [""])
        for out in [*body.get("outs", []), *body.get("metrics", [])] if name not in (REPORT, "resolve") else []:
            path, kept = (
                (out, True) if isinstance(out, str) else next((key, out[key].get("cache", True)) for key in out)
            )
            if not kept or path in FINDINGS:
                found |= {str(path).replace("${item}", str(item)) for item in items}
    return sorted(found)


def read_by_report(pipeline: dict[str, Any], sections: list[str]) -> None:
    """Set the report's data dependencies and parameters."""
    stage = pipeline["stages"].get(REPORT)
    if stage:
        own = [
            dep for dep in stage["deps"] if str(dep).startswith(("benchmarks/", "profiles/", "rlhf/report/templates"))
        ]
        stage["deps"] = own + written(pipeline["stages"])
        stage["params"] = [{"params.resolved.json": sorted(set(sections) - {"live"})}]  # which changes no result


def main() -> None:
    """Rewrite dvc.yaml, or with --check exit with status 1 if that would change it."""
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    before = path.read_text(encoding="utf-8")
    pipeline = yaml.load(before)
    sys.path.insert(0, str(ROOT))
    read_by_report(pipeline, list(yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))))
    graph = grimp.build_graph("rlhf", "stages")
    for name, entry in pipeline["stages"].items():
        stage = entry.get("do", entry)  # a foreach holds its stage one level down
        data = [dep for dep in stage["deps"] if not str(dep).endswith(".py")]
        stage["deps"] = data + closure(graph, name)
    changed = tool_output(yaml, pipeline) != before
    if changed and "--check" in sys.argv[1:]:
        sys.exit("dvc.yaml: deps differ from the import closures; run `make deps`")
    if changed:
        path.write_text(tool_output(yaml, pipeline), encoding="utf-8")


def tool_output(yaml: YAML, pipeline: object) -> str:
    """The YAML text, with the blank lines between stages that replaced lists would lose."""
    from io import StringIO

    text = StringIO()
    yaml.dump(pipeline, text)
    lines, out = text.getvalue().splitlines(), list[str]()
    for line in lines:
        starts_block = line.startswith("  ") and not line.startswith("   ") and line.rstrip().endswith(":")
        top = bool(line) and not line.startswith((" ", "#"))
        if (starts_block or top) and out and out[-1].strip() and not out[-1].startswith(("stages:", "artifacts:", "#")):
            out.append("")
        out.append(line)
    return "\n".join(out).replace("\n\n\n", "\n\n") + "\n"


if __name__ == "__main__":
    main()
