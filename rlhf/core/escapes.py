"""Notice a line break or a tab that was written as two characters and has stayed two.

DVC's `-S`, single quotes and bare words in YAML all take a backslash as it is.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rlhf.core.errors import UserError

# \n in any place; \t and \r not where they may begin a word of LaTeX (\text, \rho); characters by their number.
_ESCAPE = re.compile(r"\\(n|[tr](?![a-z])|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})")
_NO_TEXT = re.compile("[\ud800-\udfff\ufdd0\x00]")
_MEANT = {"n": "a line break", "t": "a tab", "r": "a carriage return"}


def check_escapes(values: Mapping[str, Any], where: str) -> None:
    """Check every text among the parameters, but for paths.

    Raises:
        UserError: a text holds a backslash and a letter that was probably meant as one character; or, in any text, a
            character that no file or program takes (half of a surrogate pair, NUL).
    """
    for key, text in _texts(values):
        if wrong := _NO_TEXT.search(text):
            raise UserError(f"{where}: {key}: found U+{ord(wrong[0]):04X}, which is no character of a text")
        if not key.endswith("path") and (found := _ESCAPE.search(text)):
            letter = found[1][0]
            article = "an" if letter in "nrx" else "a"
            raise UserError(
                f"{where}: {key}: found a backslash and {article} {letter}, where "
                f"{_MEANT.get(letter, 'one character')} was probably meant; write it between double quotes in "
                'params.yaml ("\\n\\nHuman: {prompt}"), since -S takes a backslash as it is'
            )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, text) for every text in nested mappings and lists; items of a list have its key."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value
