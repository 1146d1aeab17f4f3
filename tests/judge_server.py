"""A judge on 127.0.0.1 that speaks the chat-completions protocol, and misbehaves as it is told.

with JudgeServer() as server:
    server.script = [status(429, retry_after="0"), SILENCE]  # the next answers; then `opinion` decides
    endpoint = server.url
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Opinion = Callable[[str, str], str]  # (response A, response B) -> the text of the answer


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False  # nothing is said while the server runs
    raw: tuple[bytes, ...] | None = None  # written as they are, with `pause_s` between them, then the connection ends
    pause_s: float = 0.0
    again: bool = False  # the last of `raw` goes on for ever


def completion(text: Any, tokens: int | None = 10) -> Answer:
    value: dict[str, Any] = {
        "id": "1", "object": "chat.completion", "created": 0, "model": "judge",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }  # fmt: skip
    if tokens is not None:
        value["usage"] = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    return Answer(body=json.dumps(value).encode())


def status(code: int, message: str = "no", retry_after: str | None = None) -> Answer:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Answer(code, json.dumps({"error": {"message": message}}).encode(), headers=headers)


SILENCE = Answer(silent=True)


def longer_wins(a: str, b: str) -> str:
    verdict = "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
    return json.dumps({"verdict": verdict})


@dataclass
class JudgeServer:
    opinion: Opinion = longer_wins
    script: list[Answer] = field(default_factory=list)
    key: str | None = None  # the key that opens it, where it asks for one
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of what was asked, in lower case
    _closed: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def heard(self, count: int) -> None:
        """Wait until so many requests have come in: a client that gives up early may be ahead of the server."""
        for _ in range(6000):
            if len(self.asked) >= count:
                return
            self._closed.wait(0.01)
        raise AssertionError(f"{len(self.asked)} requests within a minute, and not {count}")

    def answer(self, request: dict[str, Any], authorization: str | None) -> Answer:
        if self.key is not None and authorization != f"Bearer {self.key}":
            return status(401, f"wrong key: {authorization}")
        if self.script:
            return self.script.pop(0)
        text = request["messages"][-1]["content"]
        found = re.search(r"\[Response A\]\n(.*?)\n\n\[Response B\]\n(.*?)\n\n\[Your verdict\]", text, re.DOTALL)
        assert found is not None
        return completion(self.opinion(found[1], found[2]))

    def write(self, stream: Any, answer: Answer) -> None:
        """Write an answer's raw pieces, the last one for as long as anyone listens where it goes on."""
        assert answer.raw is not None
        for piece in answer.raw:
            stream.write(piece)
            self._closed.wait(answer.pause_s)
        while answer.again and not self._closed.is_set():
            stream.write(answer.raw[-1])
            self._closed.wait(answer.pause_s)

    def __enter__(self) -> Self:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.headers.append({name.lower(): value for name, value in self.headers.items()})
                owner.asked.append(request | {"path": self.path})
                answer = owner.answer(request, self.headers.get("Authorization"))
                if answer.silent:
                    owner._closed.wait()
                    return
                if answer.raw is not None:
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        owner.write(self.wfile, answer)
                    return
                try:
                    self.send_response(answer.status)
                    for name, value in {"Content-Type": answer.kind, **answer.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                except OSError:  # the client gave up
                    pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
