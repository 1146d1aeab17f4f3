"""The key of an endpoint: where it comes from, where it goes, and where it must not be seen."""

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from rlhf.core.errors import UserError
from rlhf.judge.names import JUDGE, Names

_OPENAI = "api.openai.com"
_OWN = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
WINDOW = 8  # so many characters in a row of a key are a part of it, and no accident


def read_key(key_env: str, address: str, names: Names = JUDGE) -> str:
    """Read the key from the environment; empty where none is named.

    Raises:
        UserError: the variable holds none, or one that no header has room for, or `address` holds it too.
    """
    if not key_env:
        return ""
    key = os.environ.get(key_env, "").strip()
    if not key:
        raise UserError(f"{names('key_env')}: {address}: the environment variable {key_env} holds no key")
    if not re.fullmatch(r"[!-~]+", key):
        raise UserError(
            f"{names('key_env')}: {address}: the environment variable {key_env} holds something that no key is: a "
            "blank, a line end or a character beyond ASCII"
        )
    if key in unquote(address):
        raise UserError(
            f"{names('endpoint')}: it holds the key that {key_env} names; parameters are kept in files and in git: "
            "the address must be one without it"
        )
    return key


def headers(key: str, address: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Make the headers of a request. Organisation and project (OPENAI_ORG_ID, OPENAI_PROJECT_ID) are between the user
    and OpenAI: no other host gets them."""
    own = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # nothing is gained by packing a verdict
        "User-Agent": "rlhf-pipeline",
    }
    if key:
        own["Authorization"] = f"Bearer {key}"
    at = urlsplit(address)
    if key and at.scheme == "https" and at.hostname == _OPENAI:
        own |= {
            name: value for name, kept in _OWN.items() if re.fullmatch(r"[!-~]+", value := environment.get(kept, ""))
        }
    return own


def repeats(text: str, key: str) -> bool:
    """Say whether a text repeats the key or a part of it: as it is, in other letters, spaced out, backwards, or in
    percent, hex or base64 digits."""
    if not key:
        return False
    plain = _bare(key)
    parts = {plain[at : at + WINDOW] for at in range(max(1, len(plain) - WINDOW + 1))}
    return any(part in shape for shape in map(_bare, _shapes(text)) for part in parts | {part[::-1] for part in parts})


def _shapes(text: str) -> Iterator[str]:
    yield text
    yield unquote(text)
    for token in re.findall(r"[0-9A-Fa-f]{8,}", text):
        yield bytes.fromhex(token[: len(token) // 2 * 2]).decode("latin-1")
    for token in re.findall(r"[A-Za-z0-9+/_-]{12,}", text):
        ordinary = token.replace("-", "+").replace("_", "/")
        for skipped in range(4):  # it may begin within a longer one
            piece = ordinary[skipped:]
            try:
                yield base64.b64decode(piece[: len(piece) // 4 * 4]).decode("latin-1")
            except binascii.Error:
                continue


def _bare(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
