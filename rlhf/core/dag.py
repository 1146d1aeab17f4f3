"""Read what dvc.yaml declares of a stage, and which files .dvcignore leaves out of its folders."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.yaml import read_yaml


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage of dvc.yaml. `params` are the top-level names it takes from params.resolved.json."""

    name: str
    deps: tuple[Path, ...]
    params: tuple[str, ...]
    outs: tuple[Path, ...]


def declared(path: Path, stage: str) -> StageSpec:
    """Read what `stage` declares in the dvc.yaml at `path`, with `${...}` filled in from params.yaml beside it.

    `name@item` is one of the stages that a `foreach` over a list makes, as DVC calls them.

    Raises:
        UserError: no such file or stage.
    """
    return declared_stages(path, [stage])[stage]


def declared_stages(path: Path, stages: Iterable[str]) -> dict[str, StageSpec]:
    """Read the same of several stages at once, by name."""
    written, values = read_yaml(path).get("stages", {}), read_yaml(path.with_name("params.yaml"))
    return {stage: _spec(path, stage, written, values) for stage in stages}


def _spec(path: Path, stage: str, stages: Mapping[str, Any], given: Mapping[str, Any]) -> StageSpec:
    name, _, item = stage.partition("@")
    if name not in stages or item not in stages[name].get("foreach", [""]):
        raise UserError(f"{path}: no stage {stage!r}; found {', '.join(stages)}")
    spec = stages[name]["do"] if item else stages[name]
    values = {**given, "item": item}
    params = [name for item in spec.get("params", []) if isinstance(item, dict) for v in item.values() for name in v]
    outs = [out if isinstance(out, str) else next(iter(out)) for out in spec.get("outs", []) + spec.get("metrics", [])]
    return StageSpec(
        stage,
        tuple(Path(_filled(dep, values)) for dep in spec.get("deps", [])),
        tuple(_filled(param, values) for param in params),
        tuple(Path(_filled(out, values)) for out in outs),
    )


def ignored(root: Path = Path()) -> Callable[[Path], bool]:
    """Return a test for files that DVC leaves out of a folder it hashes: those that `root`/.dvcignore names.

    Git's rules as DVC applies them: the last pattern that matches wins, a pattern that ends in / is about folders, and
    what lies in an ignored folder is ignored. Paths are relative to `root`. Without the file nothing is ignored.
    """
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    path = root / ".dvcignore"
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    rules = [(line.endswith("/"), GitIgnoreSpecPattern(line)) for line in lines if line and not line.startswith("#")]

    def out(name: str, *, folder: bool) -> bool:
        hidden = False
        for of_folders, rule in rules:
            if rule.include is not None and (folder or not of_folders) and rule.match_file(name + "/" * folder):
                hidden = rule.include
        return hidden

    def leave_out(file: Path) -> bool:
        parents = [parent.as_posix() for parent in file.parents][-2::-1]
        return any(out(parent, folder=True) for parent in parents) or out(file.as_posix(), folder=False)

    return leave_out


def _filled(text: str, values: dict[str, Any]) -> str:
    """Replace each ${dotted.key} in `text`, as DVC does."""
    while (start := text.find("${")) >= 0:
        end = text.index("}", start)
        value: Any = values
        for key in text[start + 2 : end].split("."):
            value = value[key]
        text = f"{text[:start]}{value}{text[end + 1 :]}"
    return text
