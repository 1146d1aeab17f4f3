"""Talk to a vLLM server on this machine. Whatever goes wrong is one line."""

import json
from typing import Any
from urllib.parse import urlsplit

from rlhf.core.errors import UserError

KEY = "ppo.sampler_url"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SHOWN = 200  # characters of a server's own words


def check_address(url: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        UserError: it is none on this machine: adapters go by path, and the server has no lock on its door.
    """
    parts = urlsplit(url)
    try:
        sound = parts.scheme == "http" and parts.hostname in _LOOPBACK and parts.port and not (parts.path.strip("/"))
    except ValueError:  # a port that is no number
        sound = False
    if not sound or parts.username or parts.query or parts.fragment:
        raise UserError(
            f"{KEY}: found {url!r}; http://127.0.0.1:<port> is needed: a server on this machine (`make vllm`)"
        )
    return url.rstrip("/")


class Client:
    """Requests to one server. Safe to use from several threads."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """`timeout_s`: for one answer.

        Raises:
            UserError: the address is none on this machine.
        """
        import httpx2

        self.url = check_address(url)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        # No proxy of the environment stands between this machine and itself.
        self._http = httpx2.Client(base_url=self.url, timeout=timeout_s, trust_env=False, limits=limits)

    def get(self, path: str) -> dict[str, Any]:
        """Ask for a JSON object. Raises UserError: no answer, or another one."""
        return self._object(path, self._ask("GET", path, None))

    def post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        """Send an object and get one. Raises UserError: no answer, or another one."""
        return self._object(path, self._ask("POST", path, body))

    def order(self, path: str, body: dict[str, object]) -> None:
        """Send an object whose answer says nothing. Raises UserError: it was refused, or there is no answer."""
        self._ask("POST", path, body)

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def _ask(self, method: str, path: str, body: dict[str, object] | None) -> bytes:
        import httpx2

        try:
            answer = self._http.request(method, path, json=body)
        except httpx2.TimeoutException:
            raise UserError(f"{KEY}: {self.url}{path} gave no answer in {self._http.timeout.read:g} s") from None
        except (httpx2.HTTPError, OSError) as error:
            raise UserError(
                f"{KEY}: {self.url}{path} cannot be reached ({type(error).__name__}); `make vllm` starts a server there"
            ) from None
        content: bytes = answer.content
        if answer.status_code != 200:
            said = " ".join(content.decode(errors="replace").split())[:_SHOWN]
            raise UserError(f"{KEY}: {self.url}{path} answered {answer.status_code}: {said}")
        return content

    def _object(self, path: str, content: bytes) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{KEY}: {self.url}{path} answered no JSON object; is that a vLLM server?")
        return found
