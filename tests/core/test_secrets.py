"""What is a secret and what is not, and texts without any."""

import pytest

from rlhf.core.secrets import hide_keys, redacted

ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-abcdefghij", "JUDGE_KEY": "sk-abcdefghij-longer\n", "HTTPS_PROXY": "http://me:pw@proxy:3128",
    "HOME": "/home/someone", "GIT_AUTHOR_NAME": "Ada Lovelace", "DB_PASS": "short",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-abcdefghij!", "key [OPENAI_API_KEY]!"),
        ("key sk-abcdefghij-longer", "key [JUDGE_KEY]"),  # not the shorter one and a tail
        ("/home/someone by Ada Lovelace, short", "/home/someone by Ada Lovelace, short"),
        ("via http://me:pw@proxy:3128", "via [HTTPS_PROXY]"),
        ("at postgres://u:p@host/db and https://host/a@b", "at postgres://[hidden]@host/db and https://host/a@b"),
    ],
)
def test_secrets_are_named_and_not_shown(text: str, shown: str) -> None:
    assert redacted(text, ENVIRONMENT) == shown


def test_of_this_process_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "tok-123456789")
    assert redacted("tok-123456789") == "[SOME_TOKEN]"


def test_what_is_no_secret_is_handed_on() -> None:
    left = dict(ENVIRONMENT)
    hide_keys(left)
    assert set(left) == {"HOME", "GIT_AUTHOR_NAME"}
