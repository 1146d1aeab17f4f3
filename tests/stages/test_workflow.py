"""The workflow on the forge runs this repository's own gate, with pinned actions and no more rights than it needs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

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


STUB = "#!/bin/sh\nprintf '%s' \"$SAID\"\necho error: as planted >&2\nexit $STATUS\n"


@pytest.mark.parametrize(
    ("status", "said", "ends", "posted"),
    [(0, "same bytes", 0, "same bytes"), (3, "within", 0, "within"), (1, "different", 1, "different"),
     (1, "", 1, "verify: no verdict (status 1)")],
)  # fmt: skip
def test_the_verdict_is_posted_and_only_a_different_run_fails(
    tmp_path: Path, status: int, said: str, ends: int, posted: str
) -> None:
    (step,) = [step for step in STEPS["verify"] if step.get("id") == "verify"]
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB)
    python.chmod(0o755)
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=tmp_path, check=False,
        capture_output=True, text=True, env={**os.environ, **files, "STATUS": str(status), "SAID": said},
    )  # fmt: skip
    assert done.returncode == ends, done.stderr
    assert posted in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    head, *lines = (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
    name, _, mark = head.partition("<<")
    assert (name, lines[-1]) == ("text", mark)
    assert posted in lines[0]
    assert ("::warning::" in done.stdout) == (status == 3)


def test_what_jobs_hand_on_is_what_others_take() -> None:
    """Every needs.<job>.outputs.<name> is an output of that job, of a step that has that id."""
    for job, name in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", TEXT):
        step = re.fullmatch(r"\$\{\{ steps\.(\w+)\.outputs\.text \}\}", WORKFLOW["jobs"][job]["outputs"][name])
        assert step
        assert [one for one in STEPS[job] if one.get("id") == step[1]]
    assert set(WORKFLOW["jobs"]["comment"]["needs"]) == {"gate", "verify"}


def test_what_others_can_name_reaches_the_shell_as_a_variable() -> None:
    assert [text for text in commands() if "${{" in text] == []
