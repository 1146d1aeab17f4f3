"""One POST to one address: never elsewhere, never longer than allowed, never more bytes than allowed."""

import contextlib
import queue
import socket
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlhf.core.errors import UserError
from rlhf.judge.names import JUDGE, Names
from rlhf.judge.params import is_local

MOST_BYTES = 4 << 20  # of an answer, packed and unpacked; one of a thousand tokens takes a thousandth of it
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Late(Exception):  # noqa: N818 - the request may go better the next time
    """The answer was not whole when the time was up."""


class Unreachable(Exception):  # noqa: N818
    """No connection; why."""


class Broken(Exception):  # noqa: N818
    """There was an answer, and it is no whole HTTP answer of a size that can be; what it is instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's status, headers (lower case) and unpacked body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A client of one address. The connection stays open between requests."""

    def __init__(self, address: str, headers: Mapping[str, str], names: Names = JUDGE) -> None:
        """Proxies are those of the environment (HTTPS_PROXY, NO_PROXY and so on); there is none before this machine.

        Raises:
            UserError: the environment names a proxy that cannot be used.
        """
        self._address, self._headers, self._names = address, dict(headers), names
        self._client: Any = None
        self._sockets: list[socket.socket] = []

    def post(self, body: bytes, *, timeout_s: float) -> Answer:
        """Send `body` and return the answer, whatever its status. Redirects are not followed.

        The time counts from the call to the last byte of the answer, the look-up of the name included: the request
        runs in a thread of its own, which is left alone when the time is up.

        Raises:
            Late, Unreachable, Broken: as their names say.
            UserError: the environment names a proxy that cannot be used.
        """
        done: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                done.put(self._answer(body, timeout_s))
            except BaseException as error:  # for the thread that waits
                done.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            came = done.get(timeout=timeout_s)
        except BaseException as error:  # the time is up, or whoever waits is interrupted
            self.close()
            if isinstance(error, queue.Empty):
                raise Late from None
            raise
        if isinstance(came, BaseException):
            self.close()
            raise came from None
        return came

    def close(self) -> None:
        """End the connection, also under a request that still waits for it."""
        for held in self._sockets:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
        self._client, self._sockets = None, []

    def _answer(self, body: bytes, timeout_s: float) -> Answer:
        import httpx2

        if self._client is None:
            self._client = self._start()
        try:
            with self._client.stream(
                "POST", self._address, content=body, headers=self._headers, timeout=timeout_s,
                follow_redirects=False, extensions={"trace": self._trace},
            ) as response:  # fmt: skip
                headers = {name.lower(): value for name, value in response.headers.items()}
                packed = _bounded(response.iter_raw(), headers.get("content-length", ""))
                return Answer(response.status_code, headers, unpack(packed, headers.get("content-encoding", "")))
        except httpx2.TimeoutException:
            raise Late from None
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.DecodingError) as error:
            raise Broken(f"breaks off: {error}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Unreachable(str(error)) from None

    def _start(self) -> Any:
        import httpx2

        try:
            return httpx2.Client(
                trust_env=not is_local(self._address),
                follow_redirects=False,
                verify=self._address.startswith("https:"),  # without TLS there is no certificate to read the lists for
            )
        except (ImportError, ValueError, httpx2.InvalidURL):  # its text may hold the proxy's password
            raise UserError(
                f"{self._names('endpoint')}: a proxy that the environment names (HTTPS_PROXY, ALL_PROXY) cannot be "
                "used; "
                "an http:// or https:// address is needed, or NO_PROXY"
            ) from None

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the sockets that the client opens, so that `close` can end them."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            found = info["return_value"].get_extra_info("socket")
            if isinstance(found, socket.socket):
                self._sockets.append(found)


def unpack(packed: bytes, encoding: str) -> bytes:
    """Undo a body's content encoding, of at most MOST_BYTES. Raises Broken: it was not asked for at all, so that only
    what every library knows is undone, and only once."""
    kinds = [kind for part in encoding.split(",") if (kind := part.strip().lower()) not in ("", "identity")]
    if not kinds:
        return packed
    if len(kinds) > 1 or kinds[0] not in _WBITS:
        raise Broken(f"is packed as {encoding!r:.40}, which was not asked for")
    return _inflate(packed, _WBITS[kinds[0]])


def _inflate(packed: bytes, wbits: int) -> bytes:
    if wbits == 15 and packed[:1] and packed[0] & 0x0F != 8:  # some servers leave zlib's header out
        wbits = -15
    machine = zlib.decompressobj(wbits)
    try:
        whole = machine.decompress(packed, MOST_BYTES + 1)
    except zlib.error:
        raise Broken("is not packed as it says") from None
    if len(whole) > MOST_BYTES:
        raise Broken(_too_long())
    if not machine.eof or machine.unused_data:
        raise Broken("breaks off, or goes on, in what is packed")
    return whole


def _bounded(chunks: Any, length: str) -> bytes:
    if length.isascii() and length.isdecimal() and (len(length) > 12 or int(length) > MOST_BYTES):
        raise Broken(_too_long())
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > MOST_BYTES:
            raise Broken(_too_long())
    return bytes(found)


def _too_long() -> str:
    return f"is longer than {MOST_BYTES >> 20} MiB"
