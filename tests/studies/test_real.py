"""The study on a real model: its data, its settings, its table; the whole of it on a tiny random model."""

import copy
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import studies.real.__main__ as real
from rlhf.core.artifacts import read_json, read_jsonl, write_json, write_jsonl
from rlhf.core.errors import UserError
from rlhf.core.yaml import read_yaml
from rlhf.params import resolve
from studies.folder import put
from studies.real import chat, data, model, polite, politeness, sentiment
from studies.run import ROOT
from studies.runner import make
from tests.chat_families import make_chat_model

HH = [
    ("\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How are you?\n\nAssistant: I am very well indeed, thanks.",
     "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How are you?\n\nAssistant: No."),
    ("\n\nHuman: How are you?\n\nAssistant: Fine.", "\n\nHuman: How are you?\n\nAssistant: Bad."),
    ("\n\nHuman: Why?\n\nAssistant: It is so a b c", "\n\nHuman: Why?\n\nAssistant: It is so a d"),
    ("\n\nHuman: Who?\n\nAssistant: You.", "\n\nHuman: What?\n\nAssistant: Me."),
    ("\n\nHuman: When?\n\nAssistant: ", "\n\nHuman: When?\n\nAssistant: Now."),
]  # fmt: skip


def write_hh(folder: Path, rows: list[tuple[Any, Any]]) -> Path:
    path = folder / "hh-helpful-base" / "test.jsonl.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"chosen": chosen, "rejected": rejected}) + "\n" for chosen, rejected in rows)
    return path


def test_dialogues_are_cut_to_their_last_question(tmp_path: Path) -> None:
    source = write_hh(tmp_path, [*HH, (True, "x")])
    target = data.cut_short(source, tmp_path / "cut" / "rows.jsonl", words=4)
    assert read_jsonl(target) == [{"prompt": "How are you?", "chosen": "I am very well", "rejected": "No."}]
    before = target.stat().st_mtime_ns
    data.cut_short(source, target, words=4)
    assert target.stat().st_mtime_ns == before
    assert len(read_jsonl(data.cut_short(source, target, words=5))) == 2


def test_data_and_model_that_are_not_there_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_SHARED_DATA", str(tmp_path))
    monkeypatch.setattr(model, "MODEL", tmp_path / "model")
    with pytest.raises(UserError, match="no model there; `make smollm2-weights` comes first"):
        sentiment.plan(tmp_path, 0, "penalty")
    write_json(tmp_path / "model" / "config.json", {})
    with pytest.raises(UserError, match=r"test\.jsonl\.gz: not there.*RLHF_SHARED_DATA names the folder"):
        sentiment.plan(tmp_path, 0, "penalty")


@pytest.mark.parametrize("way", sentiment.WAYS)
def test_the_settings_are_parameters_that_there_are(tmp_path: Path, way: str) -> None:
    values = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    put(values, sentiment.SETTINGS | sentiment.WAYS[way], where="params.yaml")
    write_json(tmp_path / "params.yaml", values)
    found = resolve(tmp_path / "params.yaml", ROOT / "profiles")
    assert found.ppo.kl_coef == (0.05 if way == "penalty" else 0.0)
    assert found.ppo.response_tokens == found.evaluate.response_tokens == found.sft.sample_tokens


def test_the_collapse_begins_where_the_entropy_stays_low() -> None:
    def course(*entropies: float) -> list[dict[str, float]]:
        return [{"entropy": value} for value in entropies]

    assert sentiment.broke_at(course(2.0, 0.9, 1.5, 0.9, 0.8)) == 3
    assert sentiment.broke_at(course(2.0, 1.9, 1.0)) is None
    assert sentiment.broke_at([]) is None


def test_the_table_has_what_was_found_and_dashes_for_the_rest() -> None:
    row = {"prompt": "Hi|", "sft": " No.", "ppo": " Great!", "sft_reward": -0.3, "ppo_reward": 0.66}
    metrics = {
        "eval_reward_sft": 0.17, "eval_reward_ppo": 0.5, "eval_reward_gain": 0.33, "eval_reward_gain_low": 0.3,
        "eval_reward_gain_high": 0.36, "diagnose_overall": "failed", "diagnose_mode_collapse": "failed",
        "ppo_stop_reason": "completed",
    }  # fmt: skip
    own = {"seed": 1, "way": "free", "metrics": metrics, "course": [{"entropy": 2.0}], "samples": [row]}
    text = sentiment.table({"free-1": own})
    assert "| 1, free | 0.17 | 0.50 | 0.33 (0.30 to 0.36) | – |" in text
    assert "| 1, free | failed | mode_collapse (failed) | completed | – |" in text
    assert r"| Hi\| | No. (-0.30) | Great! (0.66) |" in text
    assert sentiment.table({}) == "Not run yet.\n"


def test_the_figure_is_drawn_of_whatever_was_made(tmp_path: Path) -> None:
    metrics = {"eval_reward_sft": 0.2, "eval_reward_ppo": 0.5, "eval_kl": 4.0, "compare_kl_best_of_2": 0.2,
               "compare_reward_best_of_2": 0.3}  # fmt: skip
    own = {"seed": 1, "way": "free", "metrics": metrics, "course": [{"score": 0.1}, {"score": 0.4}], "samples": []}
    sentiment.draw({"free-1": own}, tmp_path / "a.png")
    sentiment.draw({"free-1": own | {"metrics": {"eval_reward_sft": 0.2}}}, tmp_path / "b.png")
    one, other = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert one[:4] == other[:4] == b"\x89PNG"
    assert one != other


def test_the_word_lists_know_good_from_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vaderSentiment")
    pytest.importorskip("textblob")
    monkeypatch.syspath_prepend(ROOT / "examples" / "vader")
    monkeypatch.syspath_prepend(ROOT / "examples" / "textblob")
    from textblob_referee import polarity  # type: ignore[import-not-found]
    from vader_reward import compound  # type: ignore[import-not-found]

    for judge in (compound, polarity):
        good, none, bad = judge(["p"] * 3, [" I love it, it is wonderful.", "", " I hate it, it is horrible."])
        assert -1 <= bad < none == 0 < good <= 1


@pytest.mark.parametrize(
    ("text", "score"),
    [("Could you please tell me?", 2), ("Duh, obviously.", -2), ("Thank you, idiot.", 0), ("It is Paris.", 0), ("", 0)],
)
def test_words_of_courtesy_less_words_of_contempt(text: str, score: int) -> None:
    assert politeness.courtesy(text) == score


def test_no_word_is_in_both_lists_or_twice() -> None:
    words = politeness.COURTESY + politeness.CONTEMPT
    assert len(words) == len(set(words))


def test_the_more_courteous_wins_and_a_tie_is_a_half() -> None:
    first, second = ["Thank you.", "Duh.", "Yes.", "Please do."], ["No.", "Yes.", "No.", "Ugh."]
    assert politeness.win_rate(first, second).mean == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert politeness.ahead(first, second) == (2, 1)


def test_pairs_of_the_polite_study_have_the_input_behind_the_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Spell it.", "output": "x", "chosen": "Gladly.", "rejected": "Duh."}
    write_json(tmp_path / "rows.json", [row | {"input": "freind"}, row | {"input": ""}])
    rows = read_jsonl(polite.pairs(tmp_path / "rows.json", tmp_path / "made" / "pairs.jsonl"))
    assert [one["prompt"] for one in rows] == ["Spell it.\n\nfreind", "Spell it."]
    assert {(one["chosen"], one["rejected"]) for one in rows} == {("Gladly.", "Duh.")}


def test_the_polite_studys_settings_are_parameters_that_there_are(tmp_path: Path) -> None:
    values = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    put(values, polite.SETTINGS, where="params.yaml")
    write_json(tmp_path / "params.yaml", values)
    found = resolve(tmp_path / "params.yaml", ROOT / "profiles")
    assert (found.sft.replies, found.ppo.source, found.offline.dpo.run) == ("both", "model", True)
    assert found.ppo.response_tokens == found.evaluate.response_tokens == found.sft.sample_tokens
    assert found.evaluate.samples >= found.evaluate.prompts  # the list of words judges all that is evaluated


def test_the_polite_table_has_a_row_for_each_policy() -> None:
    metrics = {
        "reward_accuracy": 0.95, "reward_accuracy_low": 0.92, "reward_accuracy_high": 0.97, "reward_train_pairs": 500,
        "reward_test_pairs": 270, "compare_kl_ppo": 4.25, "words_winrate_dpo": 0.6, "diagnose_overall": "sound",
        "words_winrate_dpo_ahead": 9, "words_winrate_dpo_behind": 5,
        "eval_tax_copa_base": 0.7, "eval_tax_copa_sft": 0.6, "eval_tax_copa_ppo": 0.5, "eval_tax_perplexity_base": None,
    }  # fmt: skip
    row = {"prompt": "Hi", "sft": "Duh.", "ppo": "Hello.", "dpo": "Welcome."}
    text = polite.table({"0": {"seed": 0, "metrics": metrics, "samples": [row]}})
    assert "| 0 | 0.95 (0.92 to 0.97) | – | – | – | 500, 270 |" in text
    assert "| 0, ppo | – | 4.25 | – | – | – | –, – | – | sound |" in text
    assert "| 0, dpo | – | – | – | – | 0.60 | 9, 5 | – | – |" in text
    assert "| 0 | `copa` | 0.70 | 0.60 | 0.50 |" in text
    assert "perplexity" not in text
    assert "| Hi | Duh. | Hello. | Welcome. |" in text
    assert polite.table({}) == "Not run yet.\n"


def test_the_chat_studys_settings_are_parameters_that_there_are(tmp_path: Path) -> None:
    values = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    put(values, chat.SETTINGS, where="params.yaml")
    write_json(tmp_path / "params.yaml", values)
    found = resolve(tmp_path / "params.yaml", ROOT / "profiles")
    assert (found.data.template, found.data.format) == ("chat", "auto")
    assert found.ppo.response_tokens == found.evaluate.response_tokens == found.sft.sample_tokens


def test_the_chat_table_counts_the_answers_that_are_the_same() -> None:
    metrics = {"reward_train_pairs": 40, "prepare_pairs_test": 10, "reward_accuracy": 0.6, "ppo_iterations": 4}
    own = {
        "seed": 0, "metrics": metrics, "answers": [{"same_tokens": True}, {"same_tokens": False}],
        "samples": [{"prompt": "User: Hi", "sft": "Yes.", "ppo": "No."}],
    }  # fmt: skip
    text = chat.table({"0": own})
    assert "| 0 | 40, 10 | 0.60 | 4 iterations, None | – | 1 of 2 |" in text
    assert "| User: Hi | Yes. | No. |" in text
    assert chat.table({}) == "Not run yet.\n"


@pytest.mark.parametrize("given", [[], ["manners"]])
def test_a_unit_that_there_is_none_is_one_line(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["real", *given])
    with pytest.raises(
        UserError, match=rf"found {given[0] if given else 'no unit'}, units: sentiment, polite, helpful, chat;"
    ):
        real.main()


@pytest.mark.thorough
@pytest.mark.slow
def test_the_whole_study_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vaderSentiment")
    pytest.importorskip("textblob")
    words = ("cat", "dog", "love", "hate", "good", "sad", "sun", "sea")
    rows = [
        (f"\n\nHuman: {a} {b} {k}?\n\nAssistant: {a} is good", f"\n\nHuman: {a} {b} {k}?\n\nAssistant: {b} is bad")
        for a in words
        for b in words
        for k in range(2)
    ]
    write_hh(tmp_path, rows)
    monkeypatch.setenv("RLHF_SHARED_DATA", str(tmp_path))
    monkeypatch.setattr(model, "MODEL", make_chat_model(tmp_path / "model", "smollm2"))
    small = {
        "data.max_tokens": 120, "ppo.max_prompt_tokens": 100, "ppo.batch": 8,
        "ppo.minibatch": 4, "ppo.iterations": 3, "evaluate.prompts": 20, "reward.epochs": 2,
        "sft.lora.targets": "auto",
    }  # fmt: skip
    monkeypatch.setattr(sentiment, "SETTINGS", sentiment.SETTINGS | small)
    entry = sentiment.plan(tmp_path / "work", *sentiment.COMPARED)
    assert len(list(make(entry.runs, 1))) == 2
    found = entry.read()
    write_json(tmp_path / "found.json", {"penalty-0": found})
    metrics = read_json(tmp_path / "found.json")["penalty-0"]["metrics"]
    assert metrics["eval_reward_by"] == "vader_reward:compound"
    assert metrics["eval_referee_by"] == "textblob_referee:polarity"
    assert metrics["eval_prompts"] == 20
    assert metrics["compare_reward_best_of_4"] >= metrics["compare_reward_best_of_2"] >= metrics["eval_reward_sft"]
    assert metrics["diagnose_reward_model"] == "unknown"
    assert len(found["course"]) == 3
    assert "| 0, penalty |" in sentiment.table({"penalty-0": found})


@pytest.mark.thorough
@pytest.mark.slow
def test_the_whole_polite_study_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"instruction": f"Name {word} {number}.", "input": "", "output": "", "chosen": f"Please, {word}.",
         "rejected": f"Duh, {word}."}
        for word in ("cat", "dog", "sun", "sea", "egg", "fig")
        for number in range(20)
    ]  # fmt: skip
    write_json(tmp_path / "polite-rewrites" / "instruction-data-with-preference.json", rows)
    write_jsonl(tmp_path / "tax" / "lambada_500.jsonl", [{"context": "The cat", "continuation": "sat"}])
    monkeypatch.setenv("RLHF_SHARED_DATA", str(tmp_path))
    monkeypatch.setattr(model, "MODEL", make_chat_model(tmp_path / "model", "smollm2"))
    small = {
        "data.max_tokens": 120, "ppo.max_prompt_tokens": 100, "ppo.batch": 8, "ppo.minibatch": 4, "ppo.iterations": 3,
        "evaluate.prompts": 20, "evaluate.samples": 20, "reward.epochs": 2, "sft.lora.targets": "auto",
        "sft.max_examples": 40, "offline.shared.max_examples": 20, "reward.normalise_prompts": 10,
    }  # fmt: skip
    monkeypatch.setattr(polite, "SETTINGS", polite.SETTINGS | small)
    entry = polite.plan(tmp_path / "work", 0, "")
    assert len(list(make(entry.runs, 1))) == 2
    found = entry.read()
    assert found["metrics"]["words_accuracy"] == 1.0
    assert found["metrics"]["eval_tax_lambada_500_base"] is not None
    assert len(found["samples"]) == 8
    assert len(found["course"]) == 3
    assert found["metrics"]["compare_prompts"] == 20
    assert "| 0, dpo |" in polite.table({"0": found})


@pytest.mark.thorough
@pytest.mark.slow
def test_the_whole_chat_study_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": f"Say {word} {number}."}],
         "chosen": {"from": "gpt", "value": f"The {word} is good {number}."},
         "rejected": {"from": "gpt", "value": f"No {word}."}}
        for word in ("cat", "dog", "sun", "sea", "egg", "fig")
        for number in range(15)
    ]  # fmt: skip
    write_json(tmp_path / "chat-preferences" / "dpo_en_demo.json", rows)
    monkeypatch.setenv("RLHF_SHARED_DATA", str(tmp_path))
    monkeypatch.setattr(model, "MODEL", make_chat_model(tmp_path / "model", "smollm2"))
    small = {"data.max_tokens": 120, "ppo.max_prompt_tokens": 80, "reward.epochs": 2}
    monkeypatch.setattr(chat, "SETTINGS", chat.SETTINGS | small)
    entry = chat.plan(tmp_path / "work", 0, "")
    assert len(list(make(entry.runs, 1))) == 1
    found = entry.read()
    assert [one["same_tokens"] for one in found["answers"]] == [True] * chat.ASKED
    assert "4 of 4" in chat.table({"0": found})
