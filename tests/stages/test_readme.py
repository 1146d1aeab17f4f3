"""README and docs/ keep their word: metrics are explained; commands, knobs and links exist; blocks are filled."""

import itertools
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rlhf.core.yaml import read_yaml
from rlhf.params import resolve

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from readme import BLOCKS, filled  # noqa: E402

README = ROOT / "README.md"
PAGES = {path: path.read_text(encoding="utf-8") for path in [README, *sorted((ROOT / "docs").rglob("*.md"))]}
TEXT = "\n".join(PAGES.values())
METRICS = PAGES[ROOT / "docs" / "metrics.md"]
SECTIONS = "data|base|sft|reward|ppo|evaluate|runtime|diagnose|offline|acquire|report|live"
HISTORY = {ROOT / "docs" / "renames.md"}  # names that are gone are its subject


def expanded(pattern: str) -> list[str]:
    """`a_{b,c}_{d,e}` as its four names."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [part.split(",") if k % 2 else [part] for k, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def explained() -> list[re.Pattern[str]]:
    names = [name for code in re.findall(r"`([a-z][a-z0-9_{},<>*]+)`", METRICS) for name in expanded(code)]
    wild = [re.escape(n).replace(r"\*", ".*") for n in names]
    return [re.compile(re.sub(r"<[a-z]+>", ".+", pattern) + "(_low|_high)?") for pattern in wild]


def code_lines(page: str) -> list[str]:
    """The page's indented lines of code, one for each command: continued lines are joined."""
    return [line.strip() for line in re.sub(r"\\\n\s*", "", page).splitlines() if line.startswith("    ")]


def settings(line: str) -> dict[str, list[str]]:
    """What `-S name=value` sets in a shell command, each name with the values of its queue."""
    line = re.sub(r"\$'([^']*)'", lambda quoted: shlex.quote(quoted[1].replace(r"\n", "\n")), line)
    found = {}
    for option, given in itertools.pairwise(shlex.split(line, comments=True)):
        if option == "-S":
            name, _, value = given.partition("=")
            queued = "--queue" in line and not value.startswith(("[", '"'))
            found[name] = value.split(",") if queued else [value.removesuffix(";")]
    return found


EXPERIMENTS = [(path.name, line) for path, page in PAGES.items() for line in code_lines(page) if "dvc exp run" in line]


def unexplained(names: list[str]) -> list[str]:
    """The metrics of a run of which docs/metrics.md says nothing: test_pipeline and test_kill_offline have runs."""
    patterns = explained()
    return [name for name in names if not any(p.fullmatch(name) for p in patterns)]


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z0-9-]+)", TEXT, flags=re.MULTILINE))
    assert {target for target in named if f"\n{target}:" not in makefile} == set()


def test_every_knob_it_names_exists() -> None:
    params = read_yaml(ROOT / "params.yaml")
    today = "\n".join(page for path, page in PAGES.items() if path not in HISTORY)
    for dotted in set(re.findall(rf"`((?:{SECTIONS})\.[a-z_]+(?:\.[a-z_]+)*)\b[^`/]*`", today)):
        value = params
        for key in dotted.split("."):
            assert key in value, dotted
            value = value[key]


@pytest.mark.parametrize(("page", "line"), EXPERIMENTS, ids=[f"{page}-{k}" for k, (page, _) in enumerate(EXPERIMENTS)])
def test_every_example_of_an_experiment_resolves(page: str, line: str, tmp_path: Path) -> None:
    changes = settings(line)
    assert changes, f"{page}: {line}"
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    for values in itertools.product(*changes.values()):
        document = read_yaml(ROOT / "params.yaml")
        for dotted, text in zip(changes, values, strict=True):
            *parents, last = dotted.split(".")
            section = document
            for key in parents:
                section = section[key]
            assert last in section, f"{page}: {line}"
            section[last] = YAML(typ="safe", pure=True).load(text)
        (tmp_path / "params.yaml").write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML too
        resolve(tmp_path / "params.yaml", tmp_path / "profiles")


def test_the_examples_are_read() -> None:
    assert len(EXPERIMENTS) > 15
    assert settings("dvc exp run --queue -S ppo.kl_coef=0.1,0.4 -S seed=1  # two") == {
        "ppo.kl_coef": ["0.1", "0.4"], "seed": ["1"],
    }  # fmt: skip
    assert settings("""dvc exp run -S $'data.prompt_template="a\\n{prompt}"'""") == {
        "data.prompt_template": ['"a\n{prompt}"'],
    }  # fmt: skip


def links() -> list[tuple[Path, str, str]]:
    """Page, file and anchor of every link within the project."""
    found = [(path, link) for path, page in PAGES.items() for link in re.findall(r"\]\(([^)\s:]+)\)", page)]
    return [(path, *link.partition("#")[::2]) for path, link in found]


def anchors(page: str) -> set[str]:
    """Headings as the hub turns them into anchors: lower case, punctuation out, spaces to hyphens."""
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_file_and_anchor_it_links_to_exists() -> None:
    assert len(links()) > 40
    for path, file, anchor in links():
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name}: {file}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{path.name}: {file}#{anchor}"


def test_a_newcomer_finds_every_page_from_the_readme() -> None:
    linked = {(path.parent / file).resolve() for path, file, _ in links() if path == README}
    assert {path for path in (ROOT / "docs").iterdir() if path.suffix == ".md"} - linked == set()
    assert (ROOT / "docs" / "adr") in linked


def test_a_page_opens_with_the_question_it_answers() -> None:
    firsts = {path.name: page.splitlines()[0] for path, page in PAGES.items() if path.parent == ROOT / "docs"}
    assert {name: line for name, line in firsts.items() if not re.fullmatch(r"# .+\?", line)} == {}


def test_the_readme_stays_a_front_door() -> None:
    assert len(PAGES[README].encode()) <= 10_000


def test_a_block_takes_its_text_wherever_it_lies() -> None:
    page = "a\n<!-- one -->\nold\nlines\n<!-- /one -->\nb\n<!-- two -->\nsame\n<!-- /two -->\n"
    after, met, changed = filled(page, {"one": lambda: "new\n", "two": lambda: "same"}, "page.md")
    assert after == "a\n<!-- one -->\nnew\n<!-- /one -->\nb\n<!-- two -->\nsame\n<!-- /two -->\n"
    assert (met, changed) == ({"one", "two"}, ["one"])


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<!-- one -->\n", "there is no <!-- /one -->"),
        ("\n<!-- on -->\n<!-- /on -->\n", "page.md:2: unknown block 'on'; known are one, two"),
        ("<!-- /one -->\n", "page.md:1: found <!-- /one --> outside a block"),
        ("<!-- one -->\n<!-- two -->\n", "page.md:2: found <!-- two --> within one"),
        ("<!-- one -->\n<!-- /two -->\n", "page.md:2: found <!-- /two --> within one"),
    ],
)
def test_a_broken_block_is_named(page: str, said: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(said)):
        filled(page, {"one": str, "two": str}, "page.md")


def test_every_block_is_in_one_page() -> None:
    marks = re.findall(r"^<!-- ([a-z_-]+) -->$", TEXT, flags=re.MULTILINE)
    assert sorted(marks) == sorted(BLOCKS)
