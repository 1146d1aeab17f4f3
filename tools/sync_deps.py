"""`make deps`: write each stage's import closure into its `deps` in dvc.yaml; data dependencies stay as they are.

python tools/sync_deps.py [--check]
"""

import sys
from pathlib import Path

import grimp
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]


def closure(graph: grimp.ImportGraph, stage: str) -> list[str]:
    """The project's files that `python -m stages.<stage>` can import, imports inside functions included."""
    module = f"stages.{stage}"
    names = graph.find_upstream_modules(module) | {module}
    files = [Path(*name.split(".")).with_suffix(".py").as_posix() for name in names]
    return sorted(file for file in files if (ROOT / file).is_file())  # packages' own __init__.py hold no code


def main() -> None:
    """Rewrite dvc.yaml, or with --check exit with status 1 if that would change it."""
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    before = path.read_text(encoding="utf-8")
    pipeline = yaml.load(before)
    sys.path.insert(0, str(ROOT))
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
