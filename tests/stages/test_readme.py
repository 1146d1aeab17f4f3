"""README and docs/ keep their word: every metric is explained, every command, knob and file that they name exists."""

import itertools
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
TEXT = "\n".join(PAGES.values())
METRICS = PAGES[ROOT / "docs" / "metrics.md"]


def expanded(pattern: str) -> list[str]:
    """`a_{b,c}_{d,e}` as its four names."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [part.split(",") if k % 2 else [part] for k, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def explained() -> list[re.Pattern[str]]:
    names = [name for code in re.findall(r"`([a-z][a-z0-9_{},<>*]+)`", METRICS) for name in expanded(code)]
    wild = [re.escape(n).replace(r"\*", ".*") for n in names]
    return [re.compile(re.sub(r"<[a-z]+>", ".+", pattern) + "(_low|_high)?") for pattern in wild]


def test_every_metric_is_explained() -> None:
    patterns = explained()
    files = sorted((ROOT / "metrics").glob("*.json"))
    names = [name for file in files for name in json.loads(file.read_text())]
    assert len(files) >= 6
    assert len(names) > 200
    assert [name for name in names if not any(p.fullmatch(name) for p in patterns)] == []


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", TEXT, flags=re.MULTILINE))
    assert {target for target in named if f"\n{target}:" not in makefile} == set()


def test_every_knob_it_names_exists() -> None:
    from rlhf.core.yaml import read_yaml

    params = read_yaml(ROOT / "params.yaml")
    sections = "data|base|sft|reward|ppo|evaluate|runtime|diagnose|offline|report|live"
    for dotted in set(re.findall(rf"-S ([a-z_.]+)=|`((?:{sections})\.[a-z_.]+)`", TEXT)):
        place = params
        for key in "".join(dotted).split("."):
            assert key in place, dotted
            place = place[key]


def test_every_file_it_names_exists() -> None:
    links = [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    assert len(links) > 5
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
