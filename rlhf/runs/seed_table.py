"""Read and write the table of what another seed gives: benchmarks/results/seed_spread.json, an entry a profile.

An entry belongs to the code and the parameters that it was made with. Its keys are hashes of both, the seed aside: of
each stage's code without comments, docstrings and layout, so that a remark in the code does not outdate three hours of
runs; of the values that the stages declare.
"""

import ast
import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import rounded, write_text
from rlhf.core.dag import declared_stages, ignored
from rlhf.core.errors import UserError
from rlhf.core.params import dug
from rlhf.core.provenance import files_of
from rlhf.runs.headlines import HEADLINES

TABLE = Path("benchmarks/results/seed_spread.json")
STAGES = (
    "prepare",
    "base",
    "conformance",
    "sft",
    "reward",
    "ppo",
    "evaluate",
)  # those that a headline number hangs on, in order
CODE = ("rlhf", "stages")


@dataclass(frozen=True, slots=True)
class Keys:
    """What a table belongs to: `code` by stage, and the parameters."""

    code: Mapping[str, str]
    params: str

    def changed(self, other: "Keys", stages: Iterable[str] = STAGES) -> list[str]:
        """List the stages whose code is not the other's."""
        return [stage for stage in stages if self.code.get(stage) != other.code.get(stage)]


@dataclass(frozen=True, slots=True)
class SeedTable:
    """The runs of one profile that differ in the seed alone. `seeds` holds every number that they measured."""

    profile: str
    keys: Keys
    versions: Mapping[str, str | None]
    seeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def columns(self, names: Iterable[str] = HEADLINES) -> dict[str, list[float]]:
        """The named numbers that every seed has, by name."""
        rows = [self.seeds[seed] for seed in sorted(self.seeds, key=int)]
        return {name: [row[name] for row in rows] for name in names if rows and all(name in row for row in rows)}

    def names(self) -> list[str]:
        """List every number that all seeds have."""
        return sorted(set.intersection(*(set(row) for row in self.seeds.values()))) if self.seeds else []


def keys_of(root: Path, resolved: Mapping[str, Any]) -> Keys:
    """Compute the keys of the project in `root` with these resolved parameters."""
    specs = declared_stages(root / "dvc.yaml", STAGES)
    leave_out, seen = ignored(root), dict[Path, str]()
    code = {}
    for stage, spec in specs.items():
        digest = hashlib.sha256()
        for dep in sorted(dep for dep in spec.deps if dep.parts[0] in CODE):
            for file in files_of(root / dep):
                name = file.relative_to(root)
                if not leave_out(name):
                    seen[name] = seen.get(name) or meaning(file)
                    digest.update(f"{name.as_posix()}\0{seen[name]}\n".encode())
        code[stage] = digest.hexdigest()[:16]
    names = sorted({name for spec in specs.values() for name in spec.params} - {"seed"})
    values = json.dumps({name: dug(resolved, name) for name in names}, sort_keys=True)
    return Keys(code, hashlib.sha256(values.encode()).hexdigest()[:16])


def meaning(file: Path) -> str:
    """Hash what a file does: of Python, the syntax tree without docstrings; of all else, and of what is not Python
    after all, the bytes."""
    return _meaning(file.read_bytes(), file.suffix == ".py")


@cache
def _meaning(data: bytes, python: bool) -> str:
    if python:
        with contextlib.suppress(SyntaxError, ValueError):
            data = _without_docstrings(ast.parse(data)).encode()
    return hashlib.sha256(data).hexdigest()


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep what has a spread over seeds: numbers, without the ends of their intervals."""
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.endswith(("_low", "_high"))
    }


def read_tables(text: bytes | None, where: str) -> dict[str, SeedTable]:
    """Read all entries, by profile; none where there is no file.

    Raises:
        UserError: the file is not such a table.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
        return {profile: _table(profile, entry) for profile, entry in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: not a table of seeds ({type(error).__name__}: {error}); `make seed-spread` writes it"
        ) from None


def write_tables(path: Path, tables: Mapping[str, SeedTable]) -> None:
    """Write all entries, a seed's numbers in one line each."""
    entries = {}
    for profile, table in tables.items():
        names = sorted({name for row in table.seeds.values() for name in row})
        rows = {seed: [row.get(name) for name in names] for seed, row in table.seeds.items()}
        entries[profile] = {
            "code": dict(table.keys.code), "params": table.keys.params, "headlines": list(HEADLINES), "names": names,
            "seeds": rows, "versions": dict(table.versions),
        }  # fmt: skip
    text = json.dumps(rounded(entries), sort_keys=True, indent=1, allow_nan=False)
    write_text(path, re.sub(r"\[[^\[\]]*\]", lambda found: " ".join(found[0].split()), text) + "\n")


def read_tables_here(path: Path) -> dict[str, SeedTable]:
    """Read the tables of a file; none where there is none."""
    return read_tables(path.read_bytes() if path.is_file() else None, str(path))


def _table(profile: str, entry: Mapping[str, Any]) -> SeedTable:
    rows = {
        str(int(seed)): {
            name: float(value) for name, value in zip(entry["names"], row, strict=True) if value is not None
        }
        for seed, row in entry["seeds"].items()
    }
    return SeedTable(profile, Keys(dict(entry["code"]), str(entry["params"])), dict(entry["versions"]), rows)


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return ast.unparse(tree)
