"""dvc.yaml says the truth: code deps cover each command's imports and nothing idle; params are those that are read."""

import ast
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.core.dag import declared
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.yaml import read_yaml
from rlhf.offline.methods import METHODS
from rlhf.params import Params

ROOT = Path(__file__).resolve().parents[2]
READS = ("section", "value")  # of a Run, by name
SPINE = ["resolve", "prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate", "diagnose"]
WRITTEN = read_yaml(ROOT / "dvc.yaml")["stages"]
PIPELINE = {name: stage.get("do", stage) for name, stage in WRITTEN.items()}  # a foreach holds its stage under `do`
RUN = [f"{n}@{item}" for n, s in WRITTEN.items() for item in s.get("foreach", [])]
RUN += [name for name, stage in WRITTEN.items() if "foreach" not in stage]


@functools.cache  # each command's closure holds most of the files
def imported_files(file: Path) -> set[Path]:
    """The project's files that `file` names in any import statement, wherever it stands."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = ROOT / Path(*name.split(".")).with_suffix(".py")
            if name.split(".")[0] in ("rlhf", "stages") and path.is_file():
                found.add(path)
    return found


def closure(file: Path) -> set[Path]:
    found, todo = {file}, [file]
    while todo:
        for path in imported_files(todo.pop()) - found:
            found.add(path)
            todo.append(path)
    return found


def params_read(file: Path) -> set[str]:
    """The names of params.resolved.json that a stage's command reads through its Run."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "run"):
            continue
        read = {"runtime": {"runtime", "seed"}, "checkpoints": {"runtime"}, "seed": {"seed"}}
        names |= (read | {"resolved": set(Params.model_fields) - {"live", "launch"}}).get(node.attr, set())
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READS:
            names.add(section_name(node.args[0], file))
    return names


def section_name(node: ast.expr, file: Path) -> str:
    """A literal, or one with the item of a foreach in it: f"offline.{run.variant}" is offline.${item}."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = []
    for part in parts:
        variant = isinstance(part, ast.FormattedValue) and ast.unparse(part.value) == "run.variant"
        assert variant or isinstance(part, ast.Constant), f"{file}: a section's name must be a literal"
        texts.append("${item}" if variant else part.value)
    return "".join(texts)


def test_the_spine_is_complete_and_in_order() -> None:
    assert [name for name in PIPELINE if name in SPINE] == SPINE


def code_deps(stage: str) -> list[Path]:
    """The folders and files of code that a stage declares."""
    deps = [Path(dep) for dep in PIPELINE[stage]["deps"]]
    return [dep for dep in deps if dep.parts[0] in ("rlhf", "stages")]


@pytest.mark.parametrize("stage", PIPELINE)
def test_declared_code_covers_the_imports(stage: str) -> None:
    declared_code = code_deps(stage)
    imported = {path.relative_to(ROOT) for path in closure(ROOT / "stages" / f"{stage}.py")}
    assert {path for path in imported if not any(path.is_relative_to(dep) for dep in declared_code)} == set()


@pytest.mark.parametrize("stage", PIPELINE)
def test_no_declared_code_is_idle(stage: str) -> None:
    imported = {path.relative_to(ROOT) for path in closure(ROOT / "stages" / f"{stage}.py")}
    assert [dep for dep in code_deps(stage) if not any(path.is_relative_to(dep) for path in imported)] == []


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_declared_folder_is_one_room(stage: str) -> None:
    """A room of the house, never two at once: `rlhf` or `rlhf/models` alone would make every edit stale everywhere."""
    assert not {Path("rlhf"), Path("rlhf/models"), Path("stages")} & set(code_deps(stage))


@pytest.mark.parametrize("stage", [stage for stage in PIPELINE if stage != "resolve"])
def test_params_declared_are_the_params_read(stage: str) -> None:
    (entry,) = PIPELINE[stage]["params"]
    assert set(entry) == {"params.resolved.json"}
    assert set(entry["params.resolved.json"]) == params_read(ROOT / "stages" / f"{stage}.py")


def test_packages_hold_no_code_that_a_closure_would_miss() -> None:
    inits = [*ROOT.glob("rlhf/**/__init__.py"), ROOT / "stages" / "__init__.py"]
    assert [path for path in inits if path.read_text().strip()] == []


@pytest.mark.parametrize("stage", [stage for stage in PIPELINE if stage != "resolve"])
def test_one_name_five_places(stage: str) -> None:
    item = "foreach" in WRITTEN[stage]
    assert PIPELINE[stage]["cmd"] == f"python -m stages.{stage}{' ${item}' if item else ''}"
    assert (ROOT / "stages" / f"{stage}.py").is_file()
    assert (ROOT / "rlhf" / stage).is_dir()
    assert (ROOT / "tests" / stage).is_dir()
    if stage == "report":  # what it writes is made of the others' metrics
        return
    assert list(PIPELINE[stage]["metrics"][0]) == [f"metrics/{stage}{'_${item}' if item else ''}.json"]


@pytest.mark.parametrize("stage", PIPELINE)
def test_help_is_light_and_says_what_is_read_and_written(stage: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", f"stages.{stage}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Read" in done.stdout or "read" in done.stdout
    assert "rite" in done.stdout
    modules = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    heavy = {"torch", "transformers", "peft", "datasets", "numpy", "pydantic", "dvc", "accelerate", "trl"}
    assert modules & heavy == set()


@pytest.mark.parametrize("stage", PIPELINE)
def test_commands_are_thin(stage: str) -> None:
    assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 40


def test_a_stage_package_is_a_dep_of_its_own_stage_alone() -> None:
    """Others take a schema of it at most (params.py), so editing reward never re-runs base or sft."""
    for stage in PIPELINE:
        foreign = [dep for dep in code_deps(stage) if dep.parts[1] in PIPELINE and dep.parts[1] != stage]
        light = ("params.py", "methods.py")  # constants and schemas
        assert [dep for dep in foreign if dep.name not in light and dep.parts[0] == "rlhf"] == [], stage


def test_layout_names_what_the_pipeline_writes() -> None:
    layout = Layout()
    outs = {out for stage in RUN for out in declared(ROOT / "dvc.yaml", stage).outs}
    named = {layout.resolved, layout.corpus, layout.pairs, layout.tokenizer, layout.base, layout.sft, layout.reward}
    named |= {layout.ppo, layout.rollouts, layout.evaluate, layout.sft_samples}
    named |= {layout.offline(method) for method in METHODS}
    assert named <= outs
    rest = {path.parts[0] for path in outs - named}
    assert rest <= {"metrics", "plots", "provenance", "artifacts", "reports"}


def test_the_report_depends_on_all_that_others_write_for_people() -> None:
    """What git keeps of a run, and nothing of its own: a number that changes is a report that is written again."""
    deps = {str(dep) for dep in declared(ROOT / "dvc.yaml", "report").deps}
    others = [declared(ROOT / "dvc.yaml", stage) for stage in RUN if stage not in ("report", "resolve")]
    outs = {str(out) for stage in others for out in stage.outs}
    assert {"metrics", "plots", "provenance", "artifacts/evaluate", "benchmarks/results/stages.json"} <= deps
    findings = {out for out in outs if out.startswith("artifacts/") and out.endswith((".json", ".md"))}
    assert findings <= deps


def test_the_spine_waits_for_no_alternative() -> None:
    for stage in SPINE:
        deps = declared(ROOT / "dvc.yaml", stage).deps
        assert not [dep for dep in deps if "offline" in dep.parts and dep.suffix != ".py"], stage


def test_an_encoder_is_a_dependency_of_reward_alone(tmp_path: Path) -> None:
    """An edit of it re-runs `reward`, and what reads the referee; nothing before."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("backbone: artifacts/sft ", "backbone: my/encoder ", 1))
    specs = {stage: declared(tmp_path / "dvc.yaml", stage) for stage in RUN}
    assert [stage for stage, spec in specs.items() if Path("my/encoder") in spec.deps] == ["reward"]
    readers = {stage for stage, spec in specs.items() if Path("artifacts/referee") in spec.deps}
    assert readers == {"ppo", "evaluate", "compare"}
    assert [stage for stage, spec in specs.items() if "referee.backbone" in spec.params] == ["reward"]


def test_a_foreach_is_filled_in_as_dvc_does() -> None:
    spec = declared(ROOT / "dvc.yaml", "offline@dpo")
    assert spec.outs[0] == Path("artifacts/offline/dpo")
    assert spec.params[0] == "offline.dpo"
    assert tuple(WRITTEN["offline"]["foreach"]) == METHODS
    with pytest.raises(UserError, match="no stage 'offline@ppo'"):
        declared(ROOT / "dvc.yaml", "offline@ppo")
    with pytest.raises(UserError, match="no stage 'offline'"):
        declared(ROOT / "dvc.yaml", "offline")


def test_dvc_yaml_can_be_read_in_a_minute() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 510  # 450, and 30 each for conformance and acquire
