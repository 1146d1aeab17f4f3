"""Text of models and of files, made fit for a terminal, Markdown or a page."""

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


class _Shown(dict[int, str | int]):
    """What each code point becomes, found out when it is first asked for."""

    def __missing__(self, code: int) -> str | int:
        unsafe = unicodedata.category(chr(code)) in _UNSAFE and code not in _NEEDED
        self[code] = found = ascii(chr(code))[1:-1] if unsafe else code
        return found


_ONE_LINE = _Shown()
_LINES = _Shown({ord("\n"): "\n", ord("\t"): "\t"})
