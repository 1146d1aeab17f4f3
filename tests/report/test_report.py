"""The whole: what it says follows the numbers, works with parts missing, and gives the same bytes twice."""

import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlhf.core.artifacts import write_json
from rlhf.core.costs import settings_hash
from rlhf.report.build import build, write_report
from rlhf.report.content import Figure
from rlhf.report.html import html
from rlhf.report.markdown import markdown
from tests.report.runs import Run, prices

SECTIONS = [
    "summary", "done", "data", "sft", "reward", "ppo", "evaluation", "overoptimisation", "methods", "verdicts",
    "samples", "costs", "sizes", "limits", "lineage", "again",
]  # fmt: skip
CARDS = {f"{name}.md" for name in ("base", "sft", "reward", "referee", "ppo")}


def text(run: Run) -> str:
    return markdown(build(run.read(), prices()))


def page(run: Run) -> str:
    return html(build(run.read(), prices()))


class Page(HTMLParser):
    """Counts elements and collects what a browser would fetch."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.sections: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        if tag == "section":
            self.sections.append(named["id"] or "")
        for name in ("src", "href", "srcset", "data", "action"):
            if (value := named.get(name)) and not value.startswith("#"):
                self.fetched.append(value)


def test_every_section_and_figure_is_there_and_nothing_is_fetched(run: Run) -> None:
    source = page(run)
    found = Page(source)
    assert found.sections == SECTIONS
    assert found.tags.count("svg") == found.tags.count("figure") >= 14
    assert found.fetched == []
    assert not re.search(r"@import|@font-face|url\((?!#)", source)
    assert found.tags.count("article") == 4
    assert len(source.encode()) < 1_500_000


def test_the_words_of_the_default_run(run: Run) -> None:
    said = text(run)
    words = [word for word in said.split() if re.search(r"\w", word)]
    assert 1500 <= len(words) <= 2500
    assert "The gold reward, which PPO never sees, rose: SFT 0.41" in said
    assert "None" not in said
    assert "nan" not in said.lower().split()


def test_claims_follow_the_numbers(run: Run) -> None:
    run.change("evaluate", eval_gold_gain=-0.4, eval_gold_gain_low=-0.5, eval_gold_gain_high=-0.3)
    run.change("evaluate", eval_gold_winrate=0.5, eval_gold_winrate_low=0.45, eval_gold_winrate_high=0.55)
    run.change("evaluate", eval_length_gain=3.0, eval_length_gain_low=2.0, eval_length_gain_high=4.0)
    run.change("ppo", ppo_stop_reason="kl_limit", ppo_stop_detail="120 nats", ppo_saved_iteration=7)
    run.change("reward", reward_over_length=-0.1, reward_over_length_low=-0.2, reward_over_length_high=-0.05)
    said = text(run)
    assert "The gold reward, which PPO never sees, fell" in said
    assert "By the gold reward PPO neither wins nor loses beyond what chance allows against SFT" in said
    assert "the length in tokens rose: +3.00 (2.00 to 4.00)" in said
    assert "PPO was stopped by the guard `kl_limit` (120 nats); the policy of iteration 7 was kept." in said
    assert "the model is worse than that" in said


def test_without_gold_it_says_that_the_judge_is_what_was_optimised(run: Run) -> None:
    others = ("gold", "referee")
    names = [
        name for name in json.loads(run.at.metrics("evaluate").read_text()) if any(judge in name for judge in others)
    ]
    run.change("evaluate", **dict.fromkeys(names))
    run.change("reward", reward_gold_agreement=None, reward_noise_ceiling=None, reward_share_of_ceiling=None)
    path = run.at.plot("overoptimisation")
    rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [k for k, name in enumerate(rows[0]) if name not in others]
    path.write_text("".join(",".join(row[k] for k in kept) + "\n" for row in rows))
    said = text(run)
    assert "what was optimised is also what judges" in said
    assert "over-optimisation cannot show" in said
    judged = said.split("## Samples")[0].split("## Evaluation")[1]
    assert "gold reward" not in judged.replace("There is no gold reward", "")


@pytest.mark.parametrize(
    "missing", ["artifacts/evaluate/*", "plots/*", "provenance/*", "metrics/ppo.json", "metrics/*"]
)
def test_missing_parts_leave_a_report(run: Run, missing: str) -> None:
    run.drop(missing)
    report = build(run.read(), prices())
    assert [section.name for section in report.sections] == SECTIONS
    assert all(section.blocks for section in report.sections)
    assert "None" not in markdown(report)


def test_a_page_of_nothing_at_all(run: Run) -> None:
    run.drop("artifacts/evaluate/*", "plots/*", "provenance/*", "metrics/*")
    found = Page(page(run))
    assert found.sections == SECTIONS
    assert "svg" not in found.tags


def test_what_a_model_says_is_no_markup(run: Run) -> None:
    source, said = page(run), text(run)
    assert "<b>bold</b>" not in source
    assert "&amp; &lt;b&gt;bold&lt;/b&gt;" in source
    assert "<b>" not in said


def test_outcomes_are_those_of_the_scores(run: Run) -> None:
    source = page(run)
    assert re.findall(r'data-gold="(\w+)"', source) == ["win", "tie", "lose", "win"]
    assert "2 won, 1 tied and 1 lost by gold reward" in text(run)


def test_verdicts_and_findings_are_taken_over(run: Run) -> None:
    (run.at.artifacts / "diagnose.md").write_text(
        "# Verdicts: failed\n\n| verdict | state | why |\n|---|---|---|\n"
        "| [verbosity](#verbosity) | **failed** | long \\| longer |\n\n"
        "## verbosity\n\n**failed**: it talks.\n\nWhat to change:\n\n- raise ppo.kl_coef (now 0.2): shorter\n"
    )
    run.change("diagnose", diagnose_overall="failed", diagnose_count_failed=1, diagnose_count_sound=0)
    features = [
        {"feature": "length", "reward": 0.5, "reward_low": 0.4, "reward_high": 0.6, "within_pairs": None, "label": 0.1}
    ]
    write_json(
        run.at.artifacts / "reward_learned.json",
        {"features": features, "words": {"up": [{"word": "sure", "effect": 0.7}]}},
    )
    said = text(run)
    assert "| verbosity | failed | long \\| longer |" in said
    assert "- raise ppo.kl_coef (now 0.2): shorter" in said
    assert "Verdicts on failure modes: failed overall (1 failed)" in said
    assert "| length | 0.50 (0.40 to 0.60) | – | 0.10 |" in said
    assert "`sure` (0.70)" in said


def test_costs_say_whether_they_are_this_runs(run: Run) -> None:
    sections = ["seed", "sft"]
    measured = {"wall_s": 90.0, "cpu_s": 5.0, "peak_memory_mb": 1500.0, "cpu_energy_j": 2500.0}
    stage = measured | {"resumed": False, "sections": sections, "settings": settings_hash(run.resolved, sections)}
    machine = {"processor": "P", "cores": 2, "memory_gb": 8, "gpus": []}
    write_json(run.folder / "stages.json", {"machine": machine, "stages": {"sft": stage}})
    assert "| sft | 1 min 30 s | 5.0 s | 1.50 GB | – | 2.50 kJ |" in text(run)
    assert "measured whole, with this run's parameters" in text(run)
    run.resolved["seed"] = 1
    assert "other parameters in sft" in text(run)
    write_json(run.folder / "stages.json", {"machine": machine, "stages": {"sft": stage | {"resumed": True}}})
    assert "only the last part is counted" in text(run)


def test_methods_that_were_asked_for_stand_beside_ppo(run: Run) -> None:
    head = "policy,reward,reward_low,reward_high,gold,kl,kl_low,kl_high,kl_bound,tokens_sampled\n"
    rows = ["ppo,0.5,0.4,0.6,1.0,0.81,0.7,0.9,,4000\n", "dpo,0.25,0.2,0.3,,0.04,0.03,0.05,,\n"]
    run.at.plot("compare").write_text(head + rows[0])
    assert "No alternatives were trained" in text(run)
    run.at.plot("compare").write_text(head + "".join(rows))
    assert "| dpo | – | 0.25 (0.20 to 0.30) | 0.04 (0.03 to 0.05) |" in text(run)
    blocks = [block for section in build(run.read(), prices()).sections for block in section.blocks]
    (figure,) = [block for block in blocks if isinstance(block, Figure) and block.name == "methods-reward"]
    assert "ppo: 0.5 at 0.9" in figure.alt
    assert "dpo: 0.25 at 0.2" in figure.alt


def test_changed_parameters_are_named(run: Run) -> None:
    assert "No parameter that the profile sets was changed" in text(run)
    run.resolved["ppo"] = run.resolved["ppo"] | {"kl_coef": 0.55}
    assert "| `ppo.kl_coef` | 0.2 | 0.55 |" in text(run)


def test_two_writes_give_the_same_bytes(run: Run) -> None:
    def written() -> dict[str, bytes]:
        write_report(run.read(), prices(), run.at)
        return {str(path): path.read_bytes() for path in run.at.reports.rglob("*") if path.is_file()}

    first = written()
    assert {Path(name).name for name in first} == CARDS | {"index.html", "report.md"}
    assert written() == first
    card = (run.at.reports / "cards" / "ppo.md").read_text()
    assert "license: apache-2.0" in card
    assert "eval_gold_winrate" in card
    assert "eval_gold_sft" not in card
    judge = (run.at.reports / "cards" / "referee.md").read_text()
    assert f"| `reward_referee_accuracy` | {run.read().numbers['reward_referee_accuracy']:.4g} (" in judge
    assert "eval_referee_winrate" in judge
    assert "`reward_accuracy`" not in judge
    assert "`provenance/reward.json`" in judge


def test_it_needs_no_torch_and_few_seconds(run: Run) -> None:
    write_json(run.folder / "params.resolved.json", run.resolved)
    code = (
        "import sys, time; start = time.process_time(); from stages.report import main; main.callback();"
        "print(time.process_time() - start, [m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers')])"
    )
    env = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ""}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=run.folder, env=env, capture_output=True, text=True, check=True
    )
    seconds, modules = done.stdout.split(maxsplit=1)
    assert float(seconds) < 6 or time.monotonic() - start < 6
    assert modules.strip() == "[]"
