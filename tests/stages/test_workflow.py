"""The workflow on the forge runs this repository's own gate, with pinned actions and no more rights than it needs."""

import re
from pathlib import Path

from rlhf.core.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".github" / "workflows" / "gate.yml").read_text(encoding="utf-8")
WORKFLOW = read_yaml(ROOT / ".github" / "workflows" / "gate.yml")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
STEPS = {name: job["steps"] for name, job in WORKFLOW["jobs"].items()}


def commands() -> list[str]:
    return [step["run"] for steps in STEPS.values() for step in steps if "run" in step]


def test_its_targets_are_the_makefiles() -> None:
    lines = [line for text in commands() for line in text.splitlines() if line.startswith("make ")]
    words = [word for line in lines for word in line.split(">")[0].split()[1:]]
    targets = [word for word in words if not word.startswith("-") and "=" not in word]
    assert [target for target in targets if f"\n{target}:" not in MAKEFILE] == []
    check = re.search(r"^check: ([a-z ]+)", MAKEFILE, flags=re.MULTILINE)
    assert check
    assert set(check[1].split()) <= set(targets)  # the whole gate


def test_actions_are_pinned_to_commits() -> None:
    used = [step["uses"] for steps in STEPS.values() for step in steps if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name)] == []


def test_it_may_read_and_only_the_comment_may_write() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in WORKFLOW["jobs"].items() if "permissions" in job} == {
        "comment": {"pull-requests": "write"}
    }
    assert not any("uses" in step for step in STEPS["comment"])  # nothing of the branch runs with the right to write
    assert "secrets." not in TEXT
    assert "pull_request_target" not in TEXT


def test_what_others_can_name_reaches_the_shell_as_a_variable() -> None:
    assert [text for text in commands() if "${{" in text] == []
