"""Check texts of rows: replies that say nothing, and characters that no file can hold."""

import math
import unicodedata

from rlhf.prepare.rows import RuleBroken

_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Zs"}  # Unicode categories of controls, format marks and spaces
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0\u034f"  # fillers that are letters or symbols to Unicode and show nothing
_ESCAPED = range(0xDC80, 0xDD00)  # what bytes that are not UTF-8 become as they are read

CONVERT = "save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8 does, where it is what a program for Windows has written)"
SAVE_AS_UTF8 = (
    "save the file as UTF-8: in Excel, File > Save As > 'CSV UTF-8 (Comma delimited)'; in LibreOffice, Save As > 'Edit "
    "filter settings' > Unicode (UTF-8); or iconv -f WINDOWS-1252 -t UTF-8"
)


def check_reply(name: str, value: object) -> str:
    """Return the reply as text.

    Raises:
        RuleBroken: null_reply, nan_reply, empty_reply, blank_reply or invisible_reply where it says nothing; wrong_type
            or not_utf8 where it is no text.
    """
    if value is None:
        raise RuleBroken("null_reply", f"{name}: expected text, found None (null)")
    if isinstance(value, float) and math.isnan(value):
        raise RuleBroken("nan_reply", f"{name}: expected text, found NaN")
    text = check_text(name, value)
    if not text:
        raise RuleBroken("empty_reply", f"{name}: the reply is empty")
    if not text.strip():
        raise RuleBroken("blank_reply", f"{name}: the reply is white space alone")
    if not visible(text):
        found = ", ".join(f"U+{ord(one):04X}" for one in dict.fromkeys(text.strip()[:5]))
        raise RuleBroken("invisible_reply", f"{name}: the reply holds only characters that show nothing ({found})")
    return text


def check_text(name: str, value: object) -> str:
    """Return the value, which must be text that can be encoded.

    Raises:
        RuleBroken: wrong_type, or not_utf8 with the place of the character.
    """
    if not isinstance(value, str):
        raise RuleBroken("wrong_type", f"{name}: expected text, found {value!r:.60} ({type(value).__name__})")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RuleBroken("not_utf8", f"{name}: {_not_utf8(value, error.start)}") from None
    return value


def visible(text: str) -> str:
    """Return the text without the characters that show nothing: white space, zero-width and other format marks."""
    return "".join(one for one in text if unicodedata.category(one) not in _INVISIBLE and one not in _BLANKS)


def same_reply(one: str, other: str) -> bool:
    """Tell whether two replies are the same to a reader: but for white space at the ends, Unicode form, and characters
    that show nothing."""
    if one.strip() == other.strip():
        return True
    return _seen(one) == _seen(other)


def _seen(text: str) -> str:
    shown = (one for one in text if unicodedata.category(one) not in {"Cf"} and one not in _BLANKS)
    return unicodedata.normalize("NFC", "".join(shown)).strip()


def _not_utf8(text: str, at: int) -> str:
    code = ord(text[at])
    if code in _ESCAPED:
        byte = code - 0xDC00
        return f"byte 0x{byte:02X} at character {at} is not UTF-8 ({_guess(byte)}); {SAVE_AS_UTF8}"
    return f"character {at} is half of a surrogate pair"


def _guess(byte: int) -> str:
    shown = bytes([byte]).decode("cp1252", "replace")
    return (
        f"in Windows-1252, in which spreadsheets save, it is {shown!r}" if shown != "\ufffd" else "of no known encoding"
    )
