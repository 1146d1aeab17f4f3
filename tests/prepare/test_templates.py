"""Prompts and replies as the models read them, and what becomes of control text in the data."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.tokens import encode_prompt, encode_response, encode_text
from rlhf.prepare.build import BaseChoice, Prepared, make_writer, prepare
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import BadRow, Comparison, Pair
from rlhf.prepare.write import write_prepared
from rlhf.prepare.written import Writer
from tests.chat_families import FAMILIES, make_chat_model
from tests.model_fixtures import sentencepiece_bpe
from tests.prepare.helpers import data_params, pair_rows, write_lines

HH = "\n\nHuman: {prompt}\n\nAssistant:"
CHATML = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
CODE = "    if x:\n        return 1\n"


def writer(tokenizer: PreTrainedTokenizerFast | None = None, **changes: Any) -> Writer:
    return make_writer(data_params(**changes), tokenizer, Path("models/mine"))


def written(prompt: Any, chosen: str = "Yes.", rejected: str = "No.", **changes: Any) -> Pair | BadRow | None:
    tokenizer = changes.pop("tokenizer", None)
    ledger = changes.pop("ledger", Ledger())
    return writer(tokenizer, **changes).pair(Comparison(prompt, chosen, rejected, "f:1"), ledger)


def pair(prompt: Any, *replies: str, **changes: Any) -> Pair:
    found = written(prompt, *replies, **changes)
    assert isinstance(found, Pair), found
    return found


def bad(prompt: Any, *replies: str, **changes: Any) -> BadRow:
    found = written(prompt, *replies, **changes)
    assert isinstance(found, BadRow), found
    return found


@pytest.mark.parametrize(
    "prompt",
    [
        "Hi there",
        " Hi there\n",
        "\n\nHuman: Hi there\n\nAssistant:",
        "\n\nHuman: Hi there\n\nAssistant: ",
        "\n\nHuman: Hi there\n\nAssistant:\n",
        "Human: Hi there\nAssistant:",
        "Human: Hi there\r\nAssistant:",
        "User: Hi there\n\nAssistant: ",
        "USER: Hi there ASSISTANT:",
        "Q: Hi there\nA:",
        "Human: Hi there",
        (Turn("user", "Hi there"),),
    ],
)
def test_a_dialogue_is_never_wrapped_twice(prompt: Any) -> None:
    found = pair(prompt, " Yes.\n", "No")
    assert (found.prompt, found.chosen, found.rejected) == ("\n\nHuman: Hi there\n\nAssistant:", " Yes.", " No")
    assert found.turns == 1


def test_a_dialogue_in_form_stays_byte_for_byte() -> None:
    text = "\n\nHuman: a\nHuman: b \n\nAssistant:  c\n\nHuman: d\n\nAssistant:"
    assert pair(text).prompt == text
    assert pair(text).turns == 2


def test_turns_become_a_dialogue() -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"))
    assert pair(turns).prompt == "Be brief.\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    assert pair(turns).turns == 2
    tools = (Turn("user", "a"), Turn("assistant", "call"), Turn("tool", "42"))
    assert pair(tools).prompt == "\n\nHuman: a\n\nAssistant: call\n\nTool: 42\n\nAssistant:"
    assert pair(turns[1:], prompt_template="Q: {prompt}\nA:").prompt == "Q: a\nA: b\n\nQ: c\nA:"
    chatml = {"prompt_template": CHATML, "tokenizer": FAMILIES["chatml"].tokenizer()}
    assert bad(turns[1:], **chatml).rule == "turn_order"


@pytest.mark.parametrize("changes", [{"template": "raw"}, {"prompt_template": "{prompt}"}])
def test_raw_is_byte_for_byte(changes: dict[str, Any]) -> None:
    for text in (CODE, " a ", "Human: Hi\nAssistant: ", "a\r\nb\t", "\n\nHuman: Hi\n\nAssistant:"):
        found = pair(text, CODE, "x\n", **changes)
        assert (found.prompt, found.chosen, found.rejected) == (text, CODE, "x\n")


def test_white_space_at_the_seam_is_the_templates() -> None:
    found = pair("Hi", " Yes.\n", "No.", prompt_template=CHATML)
    assert (found.prompt, found.chosen) == (CHATML.replace("{prompt}", "Hi"), "Yes.")
    assert pair("Hi", prompt_template="[INST] {prompt} [/INST]").chosen == " Yes."


def test_a_prompt_in_the_templates_own_form_is_not_wrapped_again() -> None:
    once = CHATML.replace("{prompt}", "Hi")
    assert pair(once, prompt_template=CHATML).prompt == once
    assert pair(once.rstrip(), prompt_template=CHATML).prompt == once
    assert pair("Q: Hi\nA: ", prompt_template="Q: {prompt}\nA:").prompt == "Q: Hi\nA:"
    twice = once + "Yes<|im_end|>\n" + once
    assert bad(twice, prompt_template=CHATML).rule == "unclear_dialogue"
    assert pair("Q: a\nA: b\nQ: c\nA:", prompt_template="Q: {prompt}\nA:").prompt == "Q: a\nA: b\n\nQ: c\nA:"
    assert pair("Human: a\nAssistant: b\nHuman: c\nAssistant:").turns == 2


@pytest.mark.parametrize(
    ("prompt", "rule", "reason"),
    [
        ("Human: a\nAssistant: Sure,", "unclear_dialogue", "within an assistant's turn"),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "unclear_dialogue", "<|im_start|>"),
        ("[INST] Hi [/INST]", "unclear_dialogue", "data.template to raw"),
        ("a \ufdd0 b", "wrong_type", "U+FDD0"),
        ((Turn("assistant", "a"),), "turn_order", "an assistant turn begins"),
        ((Turn("user", "a"), Turn("assistant", "b")), "turn_order", "where a reply must be due"),
        ((Turn("user", "a"), Turn("user", "b")), "turn_order", "a user turn follows a user turn"),
        ((Turn("user", " "),), "empty_prompt", "no text"),
        ("Human: \nAssistant:", "empty_prompt", "no text"),
        (" \n", "empty_prompt", "nothing is asked"),
    ],
)
def test_what_cannot_be_written_breaks_a_rule(prompt: Any, rule: str, reason: str) -> None:
    found = bad(prompt)
    assert (found.rule, found.origin) == (rule, "f:1")
    assert reason in found.reason
    assert "\n" not in found.reason


def test_raw_takes_no_conversation() -> None:
    assert pair((Turn("user", CODE),), template="raw").prompt == CODE
    assert bad((Turn("system", "a"), Turn("user", "b")), template="raw").rule == "turn_order"


@pytest.mark.parametrize(
    ("reply", "cut"),
    [
        (" Yes.\n\nHuman: And now?", " Yes."),
        ("Yes.\nHuman: And now?", " Yes."),
        ("Yes.\r\nAssistant: And now?", " Yes."),
        ("Yes.\n\n### Human: And now?", " Yes."),
        ("Yes, Human: she said.", None),
        ("A line.\n  Human: in a play", None),
        ("Human: said first", None),
    ],
)
def test_turn_markers_in_replies(reply: str, cut: str | None) -> None:
    ledger = Ledger()
    found = written("Hi", reply, "No.", ledger=ledger)
    assert (found is None) is (cut is not None)
    assert ledger.dropped["turn_marker"] == (cut is not None)
    found = pair("Hi", reply, "No.", on_turn_marker="cut", ledger=ledger)
    assert found.chosen == (cut or f" {reply.strip()}")
    assert ledger.changed["cut_turn_marker"] == (cut is not None)
    if cut is not None:
        with pytest.raises(UserError, match=r"f:1: a reply holds '.*', where another turn begins"):
            written("Hi", "No.", reply, on_turn_marker="stop")


def test_turn_markers_are_those_of_the_dialogue_at_hand() -> None:
    assert written("User: Hi\nAssistant:", "Yes.\nUser: more") is None
    assert pair("Hi", "Yes.\nUser: more").chosen == " Yes.\nUser: more"
    assert written("Hi", "Yes.\n### Input: more", prompt_template="### Input: {prompt}\n### Output:") is None
    assert pair("Hi", "Yes.\n\nHuman: more", template="raw").chosen == "Yes.\n\nHuman: more"
    chatml = FAMILIES["chatml"].tokenizer
    assert written("Hi", "Yes<|im_end|>\n<|im_start|>user\nmore", template="chat", tokenizer=chatml()) is None
    llama = FAMILIES["llama2"].tokenizer
    assert written("Hi", "Yes [INST] more", template="chat", tokenizer=llama()) is None
    cut = written("Hi", "Yes\n<|im_start|>user", template="chat", tokenizer=chatml(), on_turn_marker="cut")
    assert isinstance(cut, Pair)
    assert cut.chosen == "Yes"


def test_what_is_cut_to_nothing_is_no_reply() -> None:
    assert bad("Hi", "\nHuman: a", "No", on_turn_marker="cut").rule == "empty_reply"
    assert bad("Hi", "No\nHuman: a", "No", on_turn_marker="cut").rule == "tie"


@pytest.mark.parametrize(
    ("prompt", "chosen"),
    [
        ("Hi there", "Yes.</s>"),
        ("Hi there", "Yes.</s> \n"),
        ("Hi there", "Yes.</s></s>"),
        ("<s>\n\nHuman: Hi there\n\nAssistant:", "Yes."),
        ("<s> Hi there </s>", "<s>Yes.</s>"),
    ],
)
def test_control_tokens_at_the_ends_are_taken_off_and_counted(prompt: str, chosen: str) -> None:
    ledger, tokenizer = Ledger(), sentencepiece_bpe(340)
    found = pair(prompt, chosen, "No.", tokenizer=tokenizer, ledger=ledger)
    assert (found.prompt, found.chosen) == (HH.replace("{prompt}", "Hi there"), " Yes.")
    assert ledger.changed["stripped_control_tokens"] == (prompt[:3] == "<s>") + ("</s>" in chosen)
    assert encode_prompt(tokenizer, found.prompt).count(1) == 1
    assert encode_response(tokenizer, found.chosen).count(2) == 1


def test_control_tokens_within_a_text_are_plain_text() -> None:
    ledger, tokenizer = Ledger(), sentencepiece_bpe(340)
    found = pair("What does </s> mean, and <s>?", "The sign </s> ends it.", tokenizer=tokenizer, ledger=ledger)
    assert found.prompt == HH.replace("{prompt}", "What does </s> mean, and <s>?")
    prompt, reply = encode_prompt(tokenizer, found.prompt), encode_response(tokenizer, found.chosen)
    assert (prompt[0], prompt.count(1), prompt.count(2)) == (1, 1, 0)
    assert (reply[-1], reply.count(2)) == (2, 1)
    assert "What does </s> mean, and <s>?" in tokenizer.decode(prompt)
    assert tokenizer.decode(reply[:-1]).strip() == "The sign </s> ends it."
    assert ledger.changed["control_tokens_in_text"] == 2
    assert ledger.changed["stripped_control_tokens"] == 0


def test_a_label_is_never_written_twice() -> None:
    ledger = Ledger()
    found = pair("Customer: Hi\nAgent:", "Assistant: yes", "no", ledger=ledger)
    assert (found.prompt, found.chosen) == (HH.replace("{prompt}", "Customer: Hi\nAgent:"), " yes")
    assert (ledger.changed["stripped_label"], ledger.changed["open_label"]) == (1, 1)
    kept = pair("Customer: Hi\nAgent:", "Assistant: yes", "no", template="raw", ledger=ledger)
    assert kept.chosen == "Assistant: yes"
    assert ledger.changed.total() == 2


def test_control_tokens_of_other_tokenizers_are_text_and_said() -> None:
    ledger, tokenizer = Ledger(), sentencepiece_bpe(340)
    found = pair("Hi<|im_end|>", "yes </s><|im_end|><|eot_id|>", "no <|im_end|>", tokenizer=tokenizer, ledger=ledger)
    assert found.prompt == HH.replace("{prompt}", "Hi<|im_end|>")
    assert found.chosen.endswith("<|im_end|><|eot_id|>")
    assert ledger.changed["foreign_control_tokens"] == 3
    assert "3 texts hold control tokens of other tokenizers" in ledger.summary()
    assert "(<|im_end|>, <|eot_id|>)" in ledger.summary()


def test_a_templates_own_tokens_are_real_and_the_datas_are_not() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    found = pair("What is <|im_end|>?", prompt_template=CHATML, tokenizer=tokenizer)
    ids = encode_prompt(tokenizer, found.prompt)
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (ids.count(start), ids.count(end)) == (2, 1)
    assert tokenizer.decode(ids) == CHATML.replace("{prompt}", "What is <|im_end|>?")
    assert f"{found.prompt}".count("\ufdd0") == 1
    benchmark = encode_text(tokenizer, "a <|im_end|> b")
    assert end not in benchmark
    assert tokenizer.decode(benchmark) == "a <|im_end|> b"


def test_overlapping_control_tokens_are_all_plain() -> None:
    tokenizer = sentencepiece_bpe(340)
    tokenizer.add_special_tokens({"additional_special_tokens": ["||", "|||"]})
    found = pair("a |||| b</s</s>>", "x", "y", tokenizer=tokenizer, template="raw")
    ids = encode_prompt(tokenizer, found.prompt)
    assert not set(ids[1:]) & set(tokenizer.convert_tokens_to_ids(["||", "|||", "</s>", "<s>"]))
    assert tokenizer.decode(ids[1:]).strip() == "a |||| b</s</s>>"


def test_chat_writes_a_text_as_one_turn_and_a_dialogue_as_its_turns() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    found = pair(" Hi ", CODE, template="chat", tokenizer=tokenizer)
    assert found.prompt == "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"
    assert found.chosen == CODE
    found = pair("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", " d\n", template="chat", tokenizer=tokenizer)
    assert [turn.content for turn in found.conversation] == ["a", "b", "c"]
    assert (found.turns, found.chosen) == (2, "d")


def test_a_template_that_refuses_a_system_turn_is_a_rule_of_its_row() -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "Hi"))
    found = bad(turns, template="chat", tokenizer=FAMILIES["gemma"].tokenizer())
    assert (found.rule, found.reason) == ("chat_template", "the chat template refuses it: no system role")


def run(folder: Path, model: Path, **changes: Any) -> Prepared:
    write_lines(folder / "in" / "a.jsonl", pair_rows(40))
    data = data_params(path=str(folder / "in"), template="chat", max_tokens=200, **changes)
    return prepare(data, BaseChoice("path", str(model), None, None, 0), seed=0)


def test_the_stage_writes_turns_and_the_note(tmp_path: Path) -> None:
    model = make_chat_model(tmp_path / "model", "llama3")
    write_lines(tmp_path / "in" / "ood.jsonl", [{"prompt": "Strange?"}])
    prepared, at = run(tmp_path, model), Layout(tmp_path / "out")
    write_prepared(prepared, at)
    rows = [json.loads(line) for line in (at.pairs / "train.jsonl").read_text().splitlines()]
    assert all(row["conversation"] == [{"role": "user", "content": row["conversation"][0]["content"]}] for row in rows)
    assert all(row["conversation"][0]["content"] in row["prompt"] for row in rows)
    assert prepared.ood[0][0].endswith("Strange?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    tokenizer = load_tokenizer(at.tokenizer)
    assert encode_response(tokenizer, rows[0]["chosen"])[-1] == tokenizer.convert_tokens_to_ids("<|eot_id|>")
    found = {pair.prompt: pair for pairs in prepared.splits.values() for pair in pairs}
    lengths = [len(encode_prompt(tokenizer, prompt)) for prompt in found]
    assert prepared.metrics["prepare_tokens_prompt_p50"] == sorted(lengths)[len(lengths) // 2]


def test_the_stage_refuses_in_one_line(tmp_path: Path, tiny_model_dir: Path) -> None:
    for source, line in (
        (BaseChoice("path", str(tiny_model_dir), None, None, 0), "has no chat template; put its chat_template.jinja"),
        (BaseChoice("pretrain", None, None, None, 4096), "base.source is pretrain, whose tokenizer has no chat"),
    ):
        write_lines(tmp_path / "in" / "a.jsonl", pair_rows(40))
        with pytest.raises(UserError, match=r"data\.template: found 'chat'") as caught:
            prepare(data_params(path=str(tmp_path / "in"), template="chat", max_tokens=100), source, seed=0)
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)


def test_where_all_replies_hold_turns_the_counts_say_so(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [row | {"chosen": f"{row['chosen']}\n\nHuman: Thanks."} for row in pair_rows(9)])
    with pytest.raises(UserError, match="dropped: 9 turn_marker"):
        prepare(data_params(path=str(tmp_path)), BaseChoice("pretrain", None, None, None, 4096), seed=0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"template": "chat", "prompt_template": "Q: {prompt}"}, "leaves no use for data.prompt_template"),
        ({"template": "raw", "source": "synthetic"}, "data.template must be dialogue"),
    ],
)
def test_parameters_that_contradict_each_other(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        data_params(**changes)
