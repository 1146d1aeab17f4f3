"""A line break that stayed two characters is noticed in every text of the parameters; LaTeX is not taken for one."""

import pytest

from rlhf.core.errors import UserError
from rlhf.core.escapes import check_escapes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r"Q: {prompt}\nA:", "a backslash and an n, where a line break"),
        (r"Q: {prompt}\r\nA:", "a backslash and an r, where a carriage return"),
        (r"{prompt}\t", "a backslash and a t, where a tab"),
        (r"Q\u003a {prompt}", "a backslash and a u, where one character"),
        (r"\x0a{prompt}", "a backslash and an x, where one character"),
        (r"\\n", "a backslash and an n"),
    ],
)
def test_a_text_anywhere_is_refused_by_its_key(text: str, words: str) -> None:
    for values in ({"data": {"prompt_template": text}}, {"data": {"prompt_template": ["x", {"y": text}]}}):
        with pytest.raises(UserError) as caught:
            check_escapes(values, "params.yaml")
        assert str(caught.value).startswith("params.yaml: data.prompt_template")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["\ud800 {prompt}", "a\0b", "\ufdd0"])
@pytest.mark.parametrize("key", ["prompt_template", "path"])
def test_what_is_no_character_of_a_text_is_refused(text: str, key: str) -> None:
    with pytest.raises(UserError, match=rf"data.{key}: found U\+[0-9A-F]{{4}}, which is no character of a text"):
        check_escapes({"data": {key: text}}, "params.yaml")


@pytest.mark.parametrize(
    "text", ["Q: {prompt}\nA:", "\t", r"\text{a} \rho \alpha", "a\\", r"\unit", r"\xi", "\\ n", ""]
)
def test_real_line_breaks_and_other_backslashes_are_as_they_are(text: str) -> None:
    check_escapes({"data": {"prompt_template": text, "n": 3, "none": None, "yes": True}}, "params.yaml")


def test_a_path_may_hold_a_backslash() -> None:
    check_escapes({"data": {"path": r"C:\new\table"}, "ppo": {"function_path": r"a\n"}}, "params.yaml")
