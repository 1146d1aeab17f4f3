"""Verdicts as metrics, as a page, as a table, and as an exit status."""

from pathlib import Path
from typing import get_args

import pytest
from markdown_it import MarkdownIt

from rlhf.core.yaml import read_yaml
from rlhf.diagnose.all_verdicts import all_verdicts
from rlhf.diagnose.params import VerdictName
from rlhf.diagnose.remedies import REMEDIES, remedies, value_of
from rlhf.diagnose.report import failures, markdown, metrics, overall, table
from tests.diagnose.made import LIMITS, NOTHING, SOUND, run

ROOT = Path(__file__).resolve().parents[2]
NAMES = get_args(VerdictName)
BAD = run(stop_reason="score_spike", flattery=None, beliefs=None)
PARAMS = {"ppo": {"lr": 0.03, "approx_kl_stop": 0.02, "epochs": 4}}


def test_every_verdict_has_its_name_its_limits_and_its_remedies() -> None:
    assert [verdict.name for verdict in all_verdicts(SOUND, LIMITS, {})] == list(NAMES)
    assert set(REMEDIES) == set(NAMES) == set(type(LIMITS).model_fields)


def test_every_limit_is_a_sign_and_every_sign_a_metric() -> None:
    verdicts = all_verdicts(SOUND, LIMITS, {})
    found = metrics(verdicts)
    for verdict in verdicts:
        limits = {id(limit) for _, limit in getattr(LIMITS, verdict.name)}
        assert {id(sign.limit) for sign in verdict.signs} == limits, verdict.name
        assert {f"diagnose_{verdict.name}_{sign.name}" for sign in verdict.signs} <= set(found)
        assert found[f"diagnose_{verdict.name}"] == "sound"
    assert (found["diagnose_overall"], found["diagnose_count_sound"]) == ("sound", len(NAMES))


def test_overall_is_the_worst() -> None:
    assert overall(all_verdicts(BAD, LIMITS, {})) == "failed"
    assert overall(all_verdicts(SOUND, LIMITS, {})) == "sound"
    assert overall(all_verdicts(NOTHING, LIMITS, {})) == "unknown"


def test_remedies_name_parameters_that_exist_and_say_what_they_are_now() -> None:
    params = read_yaml(ROOT / "params.yaml")
    for name, own in REMEDIES.items():
        for remedy in own:
            *parents, last = remedy.key.split(".") if remedy.key else ["seed"]
            assert last in (value_of(".".join(parents), params) if parents else params), (name, remedy.key)
    found = remedies("instability", PARAMS)
    assert found[0].startswith("lower ppo.lr (now 0.03): ")
    assert not any("approx_kl_stop" in remedy for remedy in found)  # it is what it would be set to
    assert any(remedy.startswith("raise ppo.batch: ") for remedy in found)


def test_only_what_is_wrong_needs_a_remedy() -> None:
    for verdict in all_verdicts(BAD, LIMITS, PARAMS):
        assert bool(verdict.remedies) == (verdict.state in ("suspect", "failed")), verdict.name


def test_the_page_shows_evidence_thresholds_their_source_and_what_to_change() -> None:
    text = markdown(all_verdicts(BAD, LIMITS, PARAMS))
    assert text.startswith("# Verdicts: failed\n")
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == 1 + len(NAMES)
    assert html.count("<h2>") == len(NAMES)
    assert "lower ppo.lr (now 0.03)" in text
    assert "| ≥ 0.3 | ≥ 0.5 | a test |" in text  # clip_fraction
    assert "not measured" in text
    assert text.index("## instability") < text.index("## termination") < text.index("## sycophancy")


def test_the_table_has_a_line_a_verdict_the_worst_first() -> None:
    lines = table(all_verdicts(BAD, LIMITS, {})).splitlines()
    assert lines[0] == "diagnose: failed"
    assert lines[1].split()[:2] == ["failed", "instability"]
    assert lines[-1].split()[:2] == ["unknown", "sycophancy"]
    assert len(lines) == 1 + len(NAMES)


@pytest.mark.parametrize(
    ("fail_on", "count"), [([], 0), (["termination"], 0), (["instability"], 1), (["sycophancy"], 0)]
)
def test_only_failures_that_are_named_fail(fail_on: list[VerdictName], count: int) -> None:
    found = failures(all_verdicts(BAD, LIMITS, {}), fail_on)
    assert len(found) == count
    assert all("instability" in line and "\n" not in line for line in found)
