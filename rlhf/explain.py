"""Explain a parameter: its value and where that is from, what is allowed, what is sensible, what a change re-runs."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.params import dug
from rlhf.core.yaml import read_yaml
from rlhf.params import Params, resolve

_KEY = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z_0-9]+):(?P<rest>.*)")
_RANGE = re.compile(r"\d.* to |^\S+ to |>=")  # what stands behind the last semicolon is a range
_WORDS = {"integer": "whole number", "number": "number", "boolean": "true | false", "string": "text", "null": "null"}


@dataclass(frozen=True, slots=True)
class Files:
    """Where the parameters lie and the pipeline is declared."""

    params: Path = Path("params.yaml")
    profiles: Path = Path("profiles")
    pipeline: Path = Path("dvc.yaml")


def explain(name: str, files: Files) -> list[str]:
    """Describe one parameter, or list the keys of a section, as lines for a terminal.

    Raises:
        UserError: no such name (the nearest are named), or the parameters do not resolve.
    """
    values = resolve(files.params, files.profiles).model_dump(mode="json")
    comments = read_comments(files.params)
    for inner, _ in _leaves(read_yaml(files.params)):  # of a mapping on one line: its comment speaks of all
        comments.setdefault(inner, comments.get(inner.rpartition(".")[0], ""))
    if name not in comments:
        near = difflib.get_close_matches(name, comments, n=3, cutoff=0.5)
        near += [key for key in comments if key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1] and key not in near][:3]
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UserError(f"{files.params}: no parameter {name!r}{hint}")
    value, comment = dug(values, name), comments[name]
    if isinstance(value, Mapping):
        own = [key for key in comments if key.startswith(f"{name}.") and "." not in key[len(name) + 1 :]]
        rows = [f"  {key.rsplit('.', 1)[1]} = {shown(dug(values, key))}  # {comments[key]}" for key in own]
        return [f"{name}: {comment}" if comment else name, *rows, f"a change re-runs: {reruns(name, files)}"]
    meaning, _, sensible = comment.rpartition("; ")
    if not _RANGE.search(sensible):
        meaning, sensible = comment, ""
    lines = [f"{name} = {shown(value)}", f"meaning: {meaning}", f"from: {origin(name, files)}"]
    lines.append(f"allowed: {allowed(name)}")
    if sensible:
        lines.append(f"sensible: {sensible}")
    return [*lines, f"a change re-runs: {reruns(name, files)}"]


def differences(files: Files) -> list[str]:
    """List what params.yaml sets where the profile has another value."""
    own = read_yaml(files.params)
    profile = read_yaml(files.profiles / f"{own.get('profile')}.yaml")
    values = resolve(files.params, files.profiles).model_dump(mode="json")
    found = [
        f"{name} = {shown(dug(values, name))} (params.yaml; profile {own['profile']}: {shown(theirs)})"
        for name, theirs in _leaves(profile)
        if dug(own, name) is not None and dug(values, name) != theirs
    ]
    return found or [f"nothing differs from the profile {own['profile']}"]


def read_comments(path: Path) -> dict[str, str]:
    """Read the comment behind each key of params.yaml, by dotted name; empty where a key has none."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if (match := _KEY.match(line)) is None:
            continue
        depth = len(match["indent"])
        parents = [parent for parent in parents if parent[0] < depth] + [(depth, match["name"])]
        found[".".join(part for _, part in parents)] = match["rest"].rpartition("  # ")[2] if "  # " in line else ""
    return found


def origin(name: str, files: Files) -> str:
    """Name the file that a value comes from."""
    own = read_yaml(files.params)
    if dug(own, name) is not None:
        return files.params.as_posix()
    return (files.profiles / f"{own.get('profile')}.yaml").as_posix()


def allowed(name: str) -> str:
    """Say in words what the schema allows for a parameter: type, bounds, choices."""
    schema = _schema()
    node: Mapping[str, Any] = schema
    for key in name.split("."):
        node = _followed(schema, node).get("properties", {}).get(key, {})
    return _in_words(schema, node)


@functools.cache
def _schema() -> dict[str, Any]:
    return Params.model_json_schema()


def reruns(name: str, files: Files) -> str:
    """Name the stages that declare a parameter, and those that follow where the outputs change."""
    stages = dict(_stages(read_yaml(files.pipeline)["stages"]))
    if name.partition(".")[0] in ("live", "launch"):
        return "nothing"
    asked = "diagnose.fail_on" if name == "evaluate.fail_on" else name  # resolve hands it on
    first = [
        stage
        for stage, spec in stages.items()
        if any(_touches(asked, declared) for entry in spec.get("params", []) for declared in _names(entry))
    ]
    following = _following(set(first), stages)
    after = [stage for stage in stages if stage in following]
    if name == "profile":
        return "resolve, and each stage whose section another profile changes"
    return f"{', '.join(first) or 'nothing'}" + (
        f"; then, where their inputs changed: {', '.join(after)}" * bool(after)
    )


def shown(value: object) -> str:
    """Write a value as YAML would."""
    if isinstance(value, Mapping):
        return "{...}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value) if isinstance(value, str) and (not value or "\n" in value) else f"{value}"


def _leaves(values: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value


def _followed(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref", "").removeprefix("#/$defs/")
    return schema["$defs"][reference] if reference else node


def _in_words(schema: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    node = _followed(schema, node)
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_in_words(schema, part) for part in node["anyOf"]))
    if "enum" in node or "const" in node:
        return " | ".join(map(str, node.get("enum", [node.get("const")])))
    if node.get("type") == "array":
        return f"list of: {_in_words(schema, node.get('items', {}))}"
    bounds = [
        f"{sign} {node[key]}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in node
    ]
    return " ".join([_WORDS.get(node.get("type", ""), "any"), " and ".join(bounds)]).strip()


def _stages(written: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, spec in written.items():
        yield name, spec.get("do", spec)


def _names(entry: object) -> list[str]:
    lists = entry.values() if isinstance(entry, Mapping) else []
    return [str(name).replace(".${item}", "") for names in lists for name in names]


def _touches(asked: str, declared: str) -> bool:
    return asked == declared or asked.startswith(f"{declared}.") or declared.startswith(f"{asked}.")


def _following(first: set[str], stages: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The stages that read what `first` write, themselves or through others."""
    found: set[str] = set()
    while new := {
        stage
        for stage, spec in stages.items()
        if stage not in first | found and any(_reads(spec, stages[one]) for one in first | found)
    }:
        found |= new
    return found


def _reads(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> bool:
    outs = [
        next(iter(out)) if isinstance(out, Mapping) else out
        for out in [*writer.get("outs", []), *writer.get("metrics", [])]
    ]
    written = [PurePosixPath(str(out).replace("_${item}", "").replace("/${item}", "")) for out in outs]
    for dep in map(PurePosixPath, reader["deps"]):
        if any(dep == out or out.is_relative_to(dep) or dep.is_relative_to(out) for out in written):
            return True
    return False
