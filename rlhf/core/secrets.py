"""Keep keys, passwords and addresses with passwords out of what is printed, stored or handed on."""

import os
import re
from collections.abc import Mapping, MutableMapping

# Names of what opens something: keys, passwords, and all that belongs to an account.
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASS|PWD$|CRED|AUTH(?!OR(?!I))|COOKIE|BEARER|PRIVATE|SIGNATURE|WEBHOOK|CONN\w*STR|DSN$|(^|_)PAT$"
    r"|^(AWS|AZURE|OPENAI|ANTHROPIC)_",
    re.IGNORECASE,
)
_OPENS = re.compile(r"://[^/\s@]*:[^/\s@]+@")  # an address with a password in it
_KEPT = {"PWD", "OLDPWD", "TOKENIZERS_PARALLELISM"}
SHORTEST = 8  # characters of a value that is looked for in texts: shorter ones are words


def is_secret(name: str, value: str) -> bool:
    """Say whether a variable of the environment looks like a key, a password or an address with one."""
    return name not in _KEPT and bool(_SECRET.search(name) or _OPENS.search(value))


def hide_keys(environment: MutableMapping[str, str]) -> None:
    """Take out of an environment what looks like a key, a password or an address with one."""
    for name, value in list(environment.items()):
        if is_secret(name, value):
            del environment[name]


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Replace by its name the value of each secret of the environment (this process's own unless given) that stands in
    `text`, and the password in each address."""
    known = os.environ if environment is None else environment
    for name, value in sorted(known.items(), key=lambda item: -len(item[1])):  # one may be part of another
        held = value.strip()
        if len(held) >= SHORTEST and held in text and is_secret(name, value):
            text = text.replace(held, f"[{name}]")
    return _OPENS.sub("://[hidden]@", text)
