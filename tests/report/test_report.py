"""The whole: what it says follows the numbers, works with parts missing, and gives the same bytes twice."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar

import pytest

from rlhf.core.artifacts import write_json
from rlhf.core.costs import settings_hash
from rlhf.diagnose.evidence import Change
from rlhf.report.build import build, write_report
from rlhf.report.content import Block, Figure, Points, Section, Table, Text
from rlhf.report.html import html
from rlhf.report.markdown import markdown
from tests.diagnose.made import run as evidence
from tests.report.runs import Run, prices

SECTIONS = [
    "summary", "done", "data", "sft", "reward", "ppo", "evaluation", "overoptimisation", "methods", "verdicts",
    "samples", "costs", "sizes", "limits", "lineage", "again",
]  # fmt: skip
B = TypeVar("B", bound=Block)
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


def section(run: Run, name: str) -> Section:
    (found,) = [one for one in build(run.read(), prices()).sections if one.name == name]
    return found


def blocks(run: Run, name: str, kind: type[B]) -> list[B]:
    return [block for block in section(run, name).blocks if isinstance(block, kind)]


def rows(run: Run, name: str) -> dict[str, list[str]]:
    """Cells of all tables of a section by the first of their row."""
    return {row[0]: list(row[1:]) for table in blocks(run, name, Table) for row in table.rows}


def test_every_section_and_figure_is_there_and_nothing_is_fetched(stored_page: str) -> None:
    source = stored_page
    found = Page(source)
    assert found.sections == SECTIONS
    assert found.tags.count("svg") == found.tags.count("figure") >= 13
    assert found.fetched == []
    assert not re.search(r"@import|@font-face|url\((?!#)", source)
    assert found.tags.count("article") == 4
    assert len(source.encode()) < 1_500_000


def test_every_anchor_has_its_place_and_no_two_have_one_name(stored_page: str) -> None:
    source = stored_page
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', source)) <= set(ids)
    nav = source[source.index("<nav") : source.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', nav) == SECTIONS


def test_the_text_can_be_read_in_ten_minutes_and_has_no_holes(run: Run) -> None:
    said = text(run)
    words = [word for word in said.split() if re.search(r"\w", word)]
    assert 1500 <= len(words) <= 2500
    assert not {"none", "nan", "inf"} & set(re.sub(r"`[^`]*`", "", said).lower().split())


def test_claims_follow_the_numbers(run: Run) -> None:
    def claim(name: str, word: str) -> str:
        texts = [block.text for block in blocks(run, name, Text)]
        items = [item for block in blocks(run, name, Points) for item in block.items]
        (found,) = [one for one in [*texts, *items] if word in one]
        return found

    assert "better than" in claim("reward", "longer reply")
    assert claim("evaluation", "the length in tokens").split(":")[0].endswith("fell")
    run.change("evaluate", eval_length_gain=3.0, eval_length_gain_low=2.0, eval_length_gain_high=4.0)
    run.change("evaluate", eval_gold_winrate=0.5, eval_gold_winrate_low=0.45, eval_gold_winrate_high=0.55)
    run.change("reward", reward_over_length=-0.1, reward_over_length_low=-0.2, reward_over_length_high=-0.05)
    assert "worse than" in claim("reward", "longer reply")
    grown, _, numbers = claim("evaluation", "the length in tokens").partition(": ")
    assert grown.endswith("rose")
    assert numbers == "+3.00 (2.00 to 4.00)"
    assert "neither" in claim("evaluation", "0.50 (0.45 to 0.55)")


def test_without_gold_nothing_is_said_of_it_but_that_it_lacks(run: Run) -> None:
    others = ("gold", "referee")
    names = [
        name for name in json.loads(run.at.metrics("evaluate").read_text()) if any(judge in name for judge in others)
    ]
    run.change("evaluate", **dict.fromkeys(names))
    run.change("reward", reward_gold_agreement=None, reward_noise_ceiling=None, reward_share_of_ceiling=None)
    path = run.at.plot("overoptimisation")
    lines = [line.split(",") for line in path.read_text().splitlines()]
    kept = [k for k, name in enumerate(lines[0]) if name.strip('"') not in others]
    path.write_text("".join(",".join(line[k] for k in kept) + "\n" for line in lines))
    full = text(run)
    judged = full.split("## Samples")[0].split("## Evaluation")[1]
    assert "gold reward" not in judged.replace("There is no gold reward", "")
    (figure,) = blocks(run, "overoptimisation", Figure)
    assert "gold" not in figure.alt
    (limits,) = blocks(run, "limits", Points)
    assert any("gold" in item and "optimised" in item for item in limits.items)


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


def test_what_a_model_says_is_no_markup(run: Run, stored_page: str) -> None:
    source, said = stored_page, text(run)
    assert "<b>bold</b>" not in source
    assert "&amp; &lt;b&gt;bold&lt;/b&gt;" in source
    assert "<b>" not in said


def test_outcomes_are_those_of_the_scores(run: Run, stored_page: str) -> None:
    assert re.findall(r'data-gold="(\w+)"', stored_page) == ["win", "tie", "lose", "win"]
    (said, *_) = [block.text for block in blocks(run, "samples", Text)]
    assert re.findall(r"\d+", said.split(";")[0])[1:] == ["2", "1", "1"]  # won, tied, lost by gold


def test_verdicts_are_taken_over_with_evidence_and_remedies(run: Run) -> None:
    verdicts = run.diagnose(evidence(stop_reason="kl_limit", length=Change(17.0, 27.0)))
    shown = rows(run, "verdicts")
    remedies = [item for block in blocks(run, "verdicts", Points) for item in block.items]
    for verdict in verdicts:
        assert shown[verdict.name] == [verdict.state, verdict.because]
        assert set(verdict.remedies) <= set(remedies)
        for sign in verdict.signs:
            assert f"{sign.says} (`{sign.name}`)" in shown
    assert "| verbosity | failed |" in text(run) or "| verbosity | suspect |" in text(run)
    run.at.verdicts.write_text(
        "# Verdicts: failed\n\n| verdict | state | why |\n|---|---|---|\n| a | failed | b \\| c |\n"
    )
    assert rows(run, "verdicts")["a"] == ["failed", "b | c"]
    assert "| a | failed | b \\| c |" in text(run)


def test_what_the_reward_model_goes_by_is_shown(run: Run) -> None:
    row = {
        "feature": "length",
        "reward": 0.5,
        "reward_low": 0.4,
        "reward_high": 0.6,
        "within_pairs": None,
        "label": 0.1,
    }
    words = {"up": [{"word": "sure", "effect": 0.7}]}
    write_json(run.at.reward_learned, {"features": [row], "words": words})
    assert rows(run, "reward")["length"] == ["0.50 (0.40 to 0.60)", "–", "0.10"]
    assert any("`sure` (0.70)" in block.text for block in blocks(run, "reward", Text))


def test_costs_say_whether_they_are_this_runs(run: Run) -> None:
    sections = ["seed", "sft"]
    measured = {"wall_s": 90.0, "cpu_s": 5.0, "peak_memory_mb": 1500.0, "cpu_energy_j": 2500.0}
    stage = measured | {"resumed": False, "sections": sections, "settings": settings_hash(run.resolved, sections)}
    machine = {"processor": "P", "cores": 2, "memory_gb": 8, "gpus": []}

    def belongs() -> str:
        return [block.text for block in blocks(run, "costs", Text)][-1]

    write_json(run.folder / "stages.json", {"machine": machine, "stages": {"sft": stage}})
    assert rows(run, "costs")["sft"] == ["1 min 30 s", "5.0 s", "1.50 GB", "–", "2.50 kJ"]
    whole = belongs()
    run.resolved["seed"] = 1
    other = belongs()
    write_json(run.folder / "stages.json", {"machine": machine, "stages": {"sft": stage | {"resumed": True}}})
    resumed = belongs()
    assert len({whole, other, resumed}) == 3
    assert "sft" in other
    assert "resumed" in resumed


def test_methods_that_were_asked_for_stand_beside_ppo(run: Run) -> None:
    head = "policy,reward,reward_low,reward_high,gold,kl,kl_low,kl_high,kl_bound,tokens_sampled\n"
    lines = ["ppo,0.5,0.4,0.6,1.0,0.81,0.7,0.9,,4000\n", "dpo,0.25,0.2,0.3,,0.04,0.03,0.05,,\n"]
    run.at.plot("compare").write_text(head + lines[0])
    assert blocks(run, "methods", Table) == []
    run.at.plot("compare").write_text(head + "".join(lines))
    short, *_ = blocks(run, "methods", Table)
    assert ["dpo", "–", "0.25 (0.20 to 0.30)", "0.04 (0.03 to 0.05)"] in short.rows
    (figure,) = [block for block in blocks(run, "methods", Figure) if block.name == "methods-reward"]
    assert "ppo: 0.5 at 0.9" in figure.alt
    assert "dpo: 0.25 at 0.2" in figure.alt


def test_changed_parameters_are_named(run: Run) -> None:
    before = len(blocks(run, "done", Table))
    run.resolved["ppo"] = run.resolved["ppo"] | {"kl_coef": 0.55}
    changed = blocks(run, "done", Table)[1]
    assert changed.rows == [("`ppo.kl_coef`", "0.2", "0.55")]
    assert len(blocks(run, "done", Table)) == before + 1


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_it_needs_no_torch(run: Run) -> None:
    write_json(run.folder / "params.resolved.json", run.resolved)
    code = (
        "import sys; from stages.report import main; main.callback();"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers')])"
    )
    env = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=run.folder, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_referee_on_an_encoder_and_one_that_is_none_are_said_to_be(run: Run) -> None:
    none = "it is no referee, and its scores and win rates decide nothing"
    before = text(run)
    assert "sentence encoder" not in before
    assert none not in before
    run.change(
        "reward", reward_referee_encoder="bert, 6 layers", reward_referee_replies_cut=12, reward_referee_prompts_cut=0,
        reward_referee_over_length=0.021, reward_referee_over_length_low=-0.01, reward_referee_over_length_high=0.05,
        reward_referee_beats_length=False,
    )  # fmt: skip
    said = text(run)
    assert (
        "The referee, a head on a frozen sentence encoder (bert, 6 layers) on prompts that this one never saw" in said
    )
    assert "Over always taking the longer reply, on the same pairs, that is 0.021 (-0.010 to 0.050)." in said
    assert "Of 12 replies that are too long for the encoder it reads the start." in said
    assert said.count(none) == 2  # beside its accuracy, and among the limits
    assert "By the referee, which does not beat length and decides nothing, PPO" in said
    run.change("reward", reward_referee_beats_length=True)
    assert none not in text(run)
    write_report(run.read(), prices(), run.at)
    judge = (run.at.reports / "cards" / "referee.md").read_text()
    assert "A scalar head on what a frozen sentence encoder says" in judge
    assert "EncoderReferee.load" in judge
    run.change("reward", reward_referee_beats_length=False)
    run.change("evaluate", eval_referee_by="own:score")
    assert none not in text(run)


def test_functions_that_judged_are_named(run: Run) -> None:
    assert "is the function" not in text(run)
    run.change("evaluate", eval_reward_by="vader_reward:compound", eval_referee_by="textblob_referee:polarity")
    said = text(run)
    assert "The reward model here is the function `vader_reward:compound`; its scores are in its own units." in said
    assert "The referee here is the function `textblob_referee:polarity`" in said
