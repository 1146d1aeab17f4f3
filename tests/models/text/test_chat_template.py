"""Chat templates: token ids of prompts and replies against `apply_chat_template`, for well-known families."""

import datetime
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.models.text.chat_mark import end_id, write_note
from rlhf.models.text.chat_template import ChatTemplate, UnwritableError, undated
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.tokens import decode_response, encode_prompt, encode_response
from tests.chat_families import FAMILIES, messages
from tests.model_fixtures import byte_bpe

ONE = [("user", "Why is the sky blue?")]
SEVERAL = [("user", "  What is 2 + 2?"), ("assistant", "It is 4."), ("user", "And 3 + 3?\n\nSay it.")]
WITH_SYSTEM = [("system", "Be brief."), *SEVERAL]
CONVERSATIONS = {"one": ONE, "several": SEVERAL, "system": WITH_SYSTEM}


def turns(said: list[tuple[str, str]]) -> tuple[Turn, ...]:
    return tuple(Turn(role, content) for role, content in said)


def theirs(tokenizer: PreTrainedTokenizerBase, said: list[tuple[str, str]], *, prompt: bool) -> list[int]:
    found = tokenizer.apply_chat_template(messages(said), add_generation_prompt=prompt, return_dict=False)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("said", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_and_replies_are_the_librarys_ids(name: str, said: list[tuple[str, str]]) -> None:
    family = FAMILIES[name]
    if said is WITH_SYSTEM and not family.system:
        with pytest.raises(UnwritableError, match="no system role"):
            ChatTemplate.of(family.tokenizer(), "here").prompt(turns(said))
        return
    expected = theirs(family.tokenizer(), said, prompt=True)
    whole = theirs(family.tokenizer(), [*said, ("assistant", "It scatters.")], prompt=False)
    tokenizer = family.tokenizer()
    chat = ChatTemplate.of(tokenizer, "here")
    assert encode_prompt(tokenizer, chat.prompt(turns(said))) == expected
    response = encode_response(tokenizer, chat.reply(turns(said), "It scatters."))
    assert chat.end == family.end
    assert response[-1] == end_id(tokenizer) == tokenizer.convert_tokens_to_ids(family.end)
    assert response.count(end_id(tokenizer)) == 1
    if name == "mistral" and said is WITH_SYSTEM:  # it leaves the system's words out of all but the last question
        return
    # Encoded at once the seam may merge otherwise; the text of both is the same, up to what follows the end token.
    assert tokenizer.decode(whole).startswith(tokenizer.decode([*expected, *response]).rstrip())
    assert chat.content(decode_response(tokenizer, response)) == "It scatters."


@pytest.mark.parametrize("name", FAMILIES)
def test_control_tokens_of_the_data_are_plain_text(name: str) -> None:
    tokenizer = FAMILIES[name].tokenizer()
    chat = ChatTemplate.of(tokenizer, "here")
    without = encode_prompt(tokenizer, chat.prompt((Turn("user", "What does it mean?"),)))
    asked = f"What does {chat.end} mean, {tokenizer.eos_token}{tokenizer.bos_token}{''.join(chat.turn_tokens)}?"
    ids = encode_prompt(tokenizer, chat.prompt((Turn("user", asked),)))
    control = set(tokenizer.convert_tokens_to_ids([chat.end, str(tokenizer.eos_token), *chat.turn_tokens]))
    assert [i for i in ids if i in control] == [i for i in without if i in control]  # the template's own
    assert asked in tokenizer.decode(ids)
    reply = encode_response(tokenizer, chat.reply((Turn("user", "Hi"),), f"It is {chat.end}, the end."))
    assert [i for i in reply if i in control] == [end_id(tokenizer)]
    assert f"It is {chat.end}, the end." in tokenizer.decode(reply)


@pytest.mark.parametrize("name", ["chatml", "llama3", "phi3"])
def test_a_prompt_with_a_plain_token_differs_in_that_token_alone(name: str) -> None:
    tokenizer = FAMILIES[name].tokenizer()
    chat = ChatTemplate.of(tokenizer, "here")
    around = chat.prompt((Turn("user", "a Q b"),)).split("Q")
    expected = [
        *tokenizer(around[0] + "<", add_special_tokens=False)["input_ids"],
        *tokenizer(chat.end[1:] + around[1], add_special_tokens=False)["input_ids"],
    ]
    found = encode_prompt(tokenizer, chat.prompt((Turn("user", f"a {chat.end} b"),)))
    assert tokenizer.decode(found) == tokenizer.decode(expected)


def test_white_space_of_a_reply_is_the_templates(tmp_path: Path) -> None:
    for name, family in FAMILIES.items():
        chat = ChatTemplate.of(family.tokenizer(), "here")
        written = chat.reply((Turn("user", "Hi"),), "    return 1\n")
        assert ("    return 1\n" in written) is not family.strips, name


def test_the_note_beside_a_tokenizer_restores_ends_and_prompts(tmp_path: Path) -> None:
    tokenizer = FAMILIES["qwen2.5"].tokenizer()
    tokenizer.save_pretrained(tmp_path)
    chat = ChatTemplate.of(tokenizer, "here")
    write_note(tokenizer, tmp_path)
    prompt = chat.prompt((Turn("user", "What is <|im_end|>?"),))
    loaded = load_tokenizer(tmp_path)
    assert end_id(loaded) == tokenizer.convert_tokens_to_ids("<|im_end|>") != loaded.eos_token_id
    assert encode_prompt(loaded, prompt) == encode_prompt(tokenizer, prompt)
    assert end_id(load_tokenizer(tmp_path, noted=False)) == loaded.eos_token_id


def test_no_bos_is_put_before_a_template_without_one() -> None:
    tokenizer = FAMILIES["zephyr"].tokenizer()
    chat = ChatTemplate.of(tokenizer, "here")
    assert encode_prompt(tokenizer, chat.prompt(turns(ONE)))[0] != tokenizer.bos_token_id


def test_the_date_is_the_same_on_any_day(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.chat_template = "Today: {{ strftime_now('%d %b %Y') }}\n" + str(tokenizer.chat_template)
    chat = ChatTemplate.of(tokenizer, "here")
    prompt = chat.prompt(turns(ONE))
    assert prompt.startswith("Today: 26 Jul 2024\n<|im_start|>")
    tokenizer.chat_template = undated(str(tokenizer.chat_template))
    assert tokenizer.apply_chat_template(messages(ONE), tokenize=False, add_generation_prompt=True) == prompt
    assert datetime.datetime.now(datetime.UTC).year > 2024


CHATML = FAMILIES["chatml"].template


@pytest.mark.parametrize(
    ("template", "line"),
    [
        (None, "has no chat template; put its chat_template.jinja beside it"),
        ("{{ raise_exception('never') }}", "cannot write a question and its answer: the chat template refuses it"),
        ("{% if %}", "cannot write a question"),
        (CHATML.replace("{% if add_generation_prompt %}", "{% if false %}"), "without a generation prompt"),
        (CHATML.replace("{% endif %}", "<think>\n{% endif %}"), "generation prompt ends"),
        (CHATML.replace("<|im_end|>", "<|stop|>"), "holds no token of the tokenizer"),
        ("Hello", "does not write each turn once"),
    ],
)
def test_templates_that_no_reply_can_follow_are_one_line(template: str | None, line: str) -> None:
    tokenizer: PreTrainedTokenizerFast = FAMILIES["chatml"].tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError) as caught:
        ChatTemplate.of(tokenizer, "models/mine")
    assert "data.template: found 'chat', but the tokenizer of models/mine" in str(caught.value)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_writes_no_end_ends_by_eos() -> None:
    tokenizer = byte_bpe(320)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}> {{ m.content }}\n{% endfor %}assistant> "
    tokenizer.chat_template = (
        tokenizer.chat_template.replace("{% endfor %}", "{% endfor %}{% if add_generation_prompt %}") + "{% endif %}"
    )
    chat = ChatTemplate.of(tokenizer, "here")
    assert (chat.end, chat.after) == ("<|endoftext|>", "\n")
    assert chat.reply((Turn("user", "Hi"),), "Yes.") == "Yes."
