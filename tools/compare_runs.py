"""Compare what two project folders hold after `dvc repro`: artifacts, metrics and curves.

    python tools/compare_runs.py BEFORE AFTER [--renames docs/renames.md]

Names of BEFORE are renamed as the table of docs/renames.md says; AFTER must have the new names already. Then JSON, JSON
lines and curves must hold the same data, and all other files the same bytes. Markdown, provenance and reports are not
compared: they hold hashes of code, and prose. Exit status: 0 equal; 1 different, and each file that differs is named
with its first difference; 2 nothing to compare.
"""

import csv
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
FINISHED = ("metrics/evaluate.json", "artifacts/ppo", "plots/ppo.csv")  # of a whole run
COMPARED = ("artifacts", "metrics", "plots")
KINDS = ("parameter", "metric", "curve", "key", "value", "artifact")
SAME, RENAMED, DIFFERENT = "same bytes", "same but for names", "different"


@dataclass(frozen=True)
class Renames:
    """Rules by kind: a pattern of the old name and the new name, the first that matches wins."""

    rules: dict[str, list[tuple[re.Pattern[str], str]]]

    def new(self, kind: str, name: str) -> str:
        """Return what `name` is called now."""
        for pattern, template in self.rules[kind]:
            if match := pattern.fullmatch(name):
                return "".join(
                    itertools.chain(*itertools.zip_longest(template.split("*"), match.groups(), fillvalue=""))
                )
        return name

    def path(self, name: str) -> str:
        """Return where the file `name` lies now; a folder's rename moves what is in it."""
        for pattern, new in self.rules["artifact"]:
            if match := re.fullmatch(f"(?:{pattern.pattern})(/.*)?", name):
                return new + (match[1] or "")
        return name

    def data(self, value: Any, keys: str) -> Any:
        """Rename keys (of kind `keys`), strings that are a value, and parameters named within strings.

        Raises:
            ValueError: two keys of one object have the same new name.
        """
        if isinstance(value, dict):
            renamed = {self.new(keys, key): self.data(item, keys) for key, item in value.items()}
            if len(renamed) < len(value):
                raise ValueError(f"two of {', '.join(value)} have the same new name")
            return renamed
        if isinstance(value, list):
            return [self.data(item, keys) for item in value]
        if isinstance(value, str):
            text = self.new("value", value)
            for pattern, new in self.rules["parameter"]:
                text = re.sub(rf"\b{pattern.pattern}\b", new, text)
            return text
        return value


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("before", type=FOLDER)
@click.argument("after", type=FOLDER)
@click.option("--renames", type=click.Path(path_type=Path), default=ROOT / "docs" / "renames.md", help="The table.")
def main(before: Path, after: Path, renames: Path) -> None:
    """Compare artifacts, metrics and curves of two projects after `dvc repro`, names of BEFORE renamed."""
    try:
        rules = read_renames(renames)
        for folder in (before, after):
            finished(folder)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    found = list(compare(before, after, rules))
    click.echo(table(found))
    differences = [f"{name}: {what}" for name, verdict, what in found if verdict == DIFFERENT]
    if differences:
        click.echo("\n".join(["", f"first difference: {differences[0]}", *differences[1:]]))
        sys.exit(1)


def read_renames(path: Path) -> Renames:
    """Read the rows `| old | new | kind |` of a Markdown table; `*` in both columns stands for the same text.

    Raises:
        ValueError: the file or the table is missing, or a row is broken: names file, line and what is allowed.
    """
    rules: dict[str, list[tuple[re.Pattern[str], str]]] = {kind: [] for kind in KINDS}
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("| `"):
            continue
        row = re.fullmatch(r"\| `([^`]+)` \| `([^`]+)` \| (\w+) \|", line)
        if row is None or row[3] not in KINDS or row[1].count("*") != row[2].count("*"):
            allowed = f"| `old` | `new` | kind |, as many * in both, kind one of {', '.join(KINDS)}"
            raise ValueError(f"{path}:{number}: found {line!r}; a row is {allowed}")
        pattern = "(.+)".join(re.escape(part) for part in row[1].split("*"))
        rules[row[3]].append((re.compile(pattern), row[2]))
    if not any(rules.values()):
        raise ValueError(f"{path}: there is no row | `old` | `new` | kind |")
    return Renames(rules)


def finished(folder: Path) -> None:
    """Raise ValueError if `folder` does not hold a finished run."""
    missing = [name for name in FINISHED if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{folder}: there is no {', '.join(missing)}: not a project after `dvc repro`")


def compare(before: Path, after: Path, renames: Renames) -> Iterator[tuple[str, str, str]]:
    """Yield each file's new name, whether it is the same, and its first difference ("" where there is none)."""
    old = {renames.path(name): before / name for name in results(before)}
    new = {name: after / name for name in results(after)}
    for name in sorted(old.keys() | new.keys()):
        if name not in new or name not in old:
            yield name, DIFFERENT, f"only in {before if name in old else after}"
        elif old[name].read_bytes() == new[name].read_bytes():
            yield name, SAME, ""
        else:
            what = difference(old[name], new[name], renames)
            yield name, DIFFERENT if what else RENAMED, what


def results(folder: Path) -> list[str]:
    """List the files that are compared, relative to `folder`: no Markdown, nothing hidden."""
    files = (path.relative_to(folder) for part in COMPARED for path in (folder / part).rglob("*") if path.is_file())
    return [p.as_posix() for p in files if p.suffix != ".md" and not any(part.startswith(".") for part in p.parts)]


def difference(old: Path, new: Path, renames: Renames) -> str:
    """Describe the first difference of two files that are not the same bytes; "" if only names differ."""
    keys = "metric" if new.parent.name == "metrics" else "key"
    try:
        match new.suffix:
            case ".json":
                read = (json.loads(path.read_text(encoding="utf-8")) for path in (old, new))
                return unlike(renames.data(next(read), keys), next(read))
            case ".jsonl":
                rows = ([json.loads(line) for line in path.open(encoding="utf-8")] for path in (old, new))
                return unlike(renames.data(next(rows), keys), next(rows))
            case ".csv" if new.parent.name == "plots":
                curves = {renames.new("curve", name): cells for name, cells in columns(old).items()}
                return unlike(curves, columns(new))
    except ValueError as error:
        return f"cannot be read: {error}"
    one, two = old.read_bytes(), new.read_bytes()
    at = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    return f"bytes differ from byte {at} on ({len(one)} and {len(two)} bytes)"


def columns(path: Path) -> dict[str, list[str]]:
    """Read a curve's columns as text. Raises ValueError if two have one name or a row has other columns."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    if len(set(header)) < len(header):
        raise ValueError(f"{path.name}: a column stands there twice")
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {name: [] for name in header}


def unlike(old: Any, new: Any, where: str = "") -> str:
    """Describe the first place where two JSON values differ, in type too; "" if nowhere."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{where}.{key}" if where else key
            if key not in new or key not in old:
                return f"{place}: only {'before' if key in old else 'after'}"
            if what := unlike(old[key], new[key], place):
                return what
        return ""
    if isinstance(old, list) and isinstance(new, list):
        inner = (unlike(a, b, f"{where}[{k}]") for k, (a, b) in enumerate(zip(old, new, strict=False)))
        found = next(filter(None, inner), "")
        return found or (f"{where}: {len(old)} items before, {len(new)} after" if len(old) != len(new) else "")
    same = type(old) is type(new) and old == new
    return "" if same else f"{where}: {old!r} before, {new!r} after"


def table(found: Iterable[tuple[str, str, str]]) -> str:
    """Return a Markdown table of how many files of each part are the same."""
    counts: dict[str, Counter[str]] = {}
    for name, verdict, _ in found:
        part = "/".join(name.split("/")[: 2 if name.startswith("artifacts/") else 1])
        counts.setdefault(part, Counter())[verdict] += 1
    rows = [f"| {part} | {c[SAME]} | {c[RENAMED]} | {c[DIFFERENT]} |" for part, c in sorted(counts.items())]
    total = sum(counts.values(), Counter[str]())
    head = [f"| | {SAME} | {RENAMED} | {DIFFERENT} |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, f"| all | {total[SAME]} | {total[RENAMED]} | {total[DIFFERENT]} |"])


if __name__ == "__main__":
    main()
