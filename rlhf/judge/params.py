"""Parameters of a language model as judge."""

import ipaddress
import re
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from rlhf.core.params import Section

_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|gsk|xai|glpat|pplx|nvapi)-|(?:hf|gsk|ghp)_)[\w-]{12,}|AIza[\w-]{20,}"
)
_WORD = re.compile(r"(?=.*[A-Za-z])(?=.*\d)(?:[a-z]{2,5}_)?[A-Za-z0-9]{24,}")  # too long for a word, too odd for words
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class JudgeParams(Section):
    """Which model is asked, where, and how much of it. The key itself is never a parameter."""

    prompts: int = Field(ge=0)  # so many are put to the judge; 0 = there is none
    endpoint: str  # base address of an OpenAI-compatible API, as http://127.0.0.1:8000/v1
    model: str
    key_env: str  # name of the environment variable that holds the key; empty where the endpoint asks for none
    temperature: float = Field(ge=0, le=2)
    max_tokens: int = Field(ge=1)  # of an answer
    timeout_s: float = Field(gt=0)  # seconds after which a request is given up that has no whole answer
    attempts: int = Field(ge=1, le=20)  # of each request, the first included
    requests_per_minute: float = Field(ge=0)  # 0 = no limit of our own
    budget_requests: int = Field(ge=1)  # of one run; what is in the cache costs nothing
    budget_tokens: int = Field(ge=1)  # of one run, prompts and answers, as the endpoint counts them

    @model_validator(mode="after")
    def _says_whom_to_ask(self) -> "JudgeParams":
        if self.endpoint:
            _check_address(self.endpoint)
        if self.key_env and not is_variable(self.key_env):
            raise ValueError(
                "key_env must be the name of an environment variable, as OPENAI_API_KEY, and never the key itself: "
                f"parameters are kept in files and in git (found {len(self.key_env)} characters, not shown)"
            )
        if self.key_env and self.endpoint.startswith("http://") and not is_local(self.endpoint):
            raise ValueError(
                "endpoint must begin with https:// where key_env names a key, except on this machine: http:// would "
                f"send the key readable over the network (found {self.endpoint!r}); a tunnel to 127.0.0.1 will do"
            )
        if self.prompts and not self.endpoint:
            raise ValueError(f"{_ADDRESS}, where prompts is above 0 (found '')")
        if self.prompts and not self.model:
            raise ValueError("model must name a model of the endpoint where prompts is above 0 (found '')")
        return self


def is_variable(name: str) -> bool:
    """Say whether this can be the name of a variable of the environment, and does not look like a key itself."""
    return bool(_NAME.fullmatch(name)) and not _WORD.fullmatch(name)


def holds_key(address: str) -> bool:
    """Say whether an address carries what looks like a key or a password."""
    return "@" in address or "?" in address or "#" in address or bool(_PREFIXED.search(unquote(address)))


def is_local(address: str) -> bool:
    """Say whether an address's host is this machine, by its name or number."""
    host = (urlsplit(address).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_ADDRESS = "endpoint must be the address of an OpenAI-compatible API, as http://127.0.0.1:8000/v1"


def _check_address(address: str) -> None:
    """Raise ValueError, without what may be a key, unless this is an http address that holds nothing secret."""
    if holds_key(address):
        raise ValueError(
            f"{_ADDRESS}, without a key, user, query or fragment: parameters are kept in files and in git (found "
            f"{len(address)} characters, not shown); key_env names the environment variable that holds the key"
        )
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or a number that is none
        sound = False
    if not sound or not re.fullmatch(r"[!-~]+", address):
        raise ValueError(f"{_ADDRESS} (found {address!r})")
