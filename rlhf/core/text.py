"""Text of models and of files, made fit for a terminal, Markdown or a page."""

import json
import unicodedata

# Format characters (category Cf) that scripts need and that move nothing: joiners, and signs that span digits.
_NEEDED = frozenset((0x200C, 0x200D, *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD))
# Control characters, formats (bidi overrides and tags among them), halves of surrogate pairs, line separators.
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text with each character that commands a terminal or reorders a line shown as its escape, such as \x1b.

    lines: line ends (\r\n too) and tabs stay; without it the result is one line.
    """
    if not lines:
        return text.translate(_ONE_LINE)
    return text.replace("\r\n", "\n").translate(_LINES)


def markdown_code(text: str) -> str:
    """Mark a text as code that stays in its place in Markdown, a table's cell too, whatever is in it."""
    shown = " ".join(printable(text).replace("|", "\\|").replace("`", "'").split())
    return f"`{shown or ' '}`"


def markdown_cell(text: str) -> str:
    """Make a text stay in its cell of a Markdown table, and no HTML of it; its own Markdown holds."""
    for sign, shown in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(sign, shown)
    return " ".join(printable(text, lines=True).split())


def json_safe(text: str) -> str:
    r"""Write each such character in JSON as JSON's escape, such as \u202e: the value stays, and is safe to look at."""
    return text.translate(_JSON)


class _Shown(dict[int, str | int]):
    """What each code point becomes, found out when it is first asked for."""

    def __missing__(self, code: int) -> str | int:
        unsafe = unicodedata.category(chr(code)) in _UNSAFE and code not in _NEEDED
        self[code] = found = ascii(chr(code))[1:-1] if unsafe else code
        return found


class _Escaped(dict[int, str | int]):
    """What each code point becomes in JSON; line ends and tabs stand between values only, and stay."""

    def __missing__(self, code: int) -> str | int:
        safe = _ONE_LINE[code] == code or chr(code) in "\n\t\r"
        self[code] = found = code if safe else json.dumps(chr(code))[1:-1]
        return found


_ONE_LINE = _Shown()
_JSON = _Escaped()
_LINES = _Shown({ord("\n"): "\n", ord("\t"): "\t"})
