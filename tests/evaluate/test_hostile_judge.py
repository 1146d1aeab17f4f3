"""A judge that answers anything at all, in any form and at any pace: each is a malformed answer or one line, and the
key goes nowhere."""

import base64
import contextlib
import gzip
import json
import logging
import os
import sys
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.errors import UserError
from rlhf.judge import client, http
from rlhf.judge.cache import Cache
from rlhf.judge.client import BudgetSpent, Malformed
from rlhf.judge.completion import NoCompletion, read_completion
from rlhf.judge.keys import headers, repeats
from rlhf.judge.pairwise import Duel, judge, question, read_choice
from tests.evaluate.test_judge import FakeClock, make
from tests.judge_server import Answer, JudgeServer, completion, status

KEY = "sk-Abc123Def456Ghi789"
MESSAGES = question("Why?", "Because.", "No.")
GOOD = completion('{"verdict": "A"}').body
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if "proxy" in name.lower() or name.startswith("OPENAI"):
            monkeypatch.delenv(name)


def sent(headers: bytes, *pieces: bytes, pause_s: float = 0.0, again: bool = False) -> Answer:
    return Answer(raw=(OK + headers + b"\r\n", *pieces), pause_s=pause_s, again=again)


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def packed(body: bytes, encoding: bytes) -> Answer:
    return sent(b"Content-Encoding: %s\r\nContent-Length: %d\r\n" % (encoding, len(body)), body)


def bare_deflate(body: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(body) + machine.flush()


ZEROS = b"0" * (64 << 20)
BOMB = gzip.compress(ZEROS)
MOST = http.MOST_BYTES


def content(text: str) -> Answer:
    """A completion whose text is this piece of JSON."""
    return Answer(body=b'{"choices": [{"message": {"content": ' + text.encode("utf-8", "surrogatepass") + b"}}]}")


MALFORMED: dict[str, Answer] = {
    "empty": Answer(body=b""), "blank": Answer(body=b" \n\t"), "null": Answer(body=b"null"), "text": Answer(body=b'"A"'),
    "number": Answer(body=b"1"), "list": Answer(body=b"[]"), "object": Answer(body=b"{}"), "html": Answer(body=b"<html>"),
    "html-ok": Answer(body=b"<!doctype html><script>alert(1)</script>", kind="text/html"),
    "error": Answer(body=b'{"error": {"message": "overloaded\\u001b[2J"}}'), "error-text": Answer(body=b'{"error": "no"}'),
    "error-null": Answer(body=b'{"error": null}'), "no-content": status(204), "partial": Answer(206, b"{"),
    "odd-status": Answer(299, b""), "cut": Answer(body=GOOD[:-5]), "twice": Answer(body=GOOD + GOOD),
    "events": Answer(body=b'data: {"choices": []}\n\ndata: [DONE]\n', kind="text/event-stream"),
    "utf-16": Answer(body=GOOD.decode().encode("utf-16")), "utf-32": Answer(body=GOOD.decode().encode("utf-32-le")),
    "latin-1": Answer(body=GOOD.replace(b"judge", b"\xe4\xf6\xfc")), "zeros": Answer(body=b"\x00" * 100),
    "nan": Answer(body=GOOD.replace(b'"created": 0', b'"created": NaN')),
    "infinity": Answer(body=GOOD.replace(b'"created": 0', b'"created": -Infinity')),
    "digits": Answer(body=GOOD.replace(b'"created": 0', b'"created": ' + b"9" * 10000)),
    "name-twice": Answer(body=GOOD.replace(b'"created": 0', b'"id": "2"')),
    "deep-list": Answer(body=b"[" * 100_000), "deep-object": Answer(body=b'{"a":' * 100_000),
    "deep-and-closed": Answer(body=b"[" * 100_000 + b"]" * 100_000),
    "deep-within": content("[" * 50_000 + "]" * 50_000),
    "choices-null": Answer(body=b'{"choices": null}'), "choices-text": Answer(body=b'{"choices": "ab"}'),
    "choices-object": Answer(body=b'{"choices": {"0": 1}}'), "choices-empty": Answer(body=b'{"choices": []}'),
    "choice-text": Answer(body=b'{"choices": ["A"]}'), "choice-null": Answer(body=b'{"choices": [null]}'),
    "no-message": Answer(body=b'{"choices": [{}]}'), "message-text": Answer(body=b'{"choices": [{"message": "A"}]}'),
    "message-list": Answer(body=b'{"choices": [{"message": ["content"]}]}'),
    "content-number": content("1"), "content-true": content("true"), "content-list": content('[{"text": "A"}]'),
    "content-object": content('{"verdict": "A"}'), "surrogate": content('"\\ud800"'), "surrogate-low": content('"x\\udc00y"'),
    "surrogate-raw": content('"\ud800"'),
    "no-http": Answer(raw=(b"hello\r\n\r\n",)), "no-answer": Answer(raw=()), "half-head": Answer(raw=(b"HTTP/1.1 200",)),
    "too-old": Answer(raw=(b"HTTP/0.1 200 OK\r\n\r\n",)), "no-status": Answer(raw=(b"HTTP/1.1 abc OK\r\n\r\n",)),
    "long-header": sent(b"X: " + b"a" * 200_000 + b"\r\n"), "many-headers": sent(b"X: a\r\n" * 40_000),
    "odd-header": sent(b"\x00\xff: \x01\r\n"), "folded": sent(b"X: a\r\n b\r\nContent-Length: x\r\n"),
    "two-lengths": sent(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"{}  "),
    "negative-length": sent(b"Content-Length: -1\r\n", GOOD), "length-too-long": sent(b"Content-Length: 999\r\n", GOOD),
    "length-too-short": sent(b"Content-Length: 9\r\n", GOOD), "length-huge": sent(b"Content-Length: %d\r\n" % 10**15),
    "length-absurd": sent(b"Content-Length: " + b"9" * 5000 + b"\r\n"),
    "chunk-cut": sent(b"Transfer-Encoding: chunked\r\n", b"ff\r\n" + GOOD), "chunk-odd": sent(b"Transfer-Encoding: chunked\r\n", b"zz\r\n"),
    "chunk-huge": sent(b"Transfer-Encoding: chunked\r\n", b"%x\r\n" % 10**15, b"0" * (1 << 20), again=True),
    "chunks-for-ever": sent(b"Transfer-Encoding: chunked\r\n", b"10000\r\n" + b"0" * 0x10000 + b"\r\n", again=True),
    "for-ever": sent(b"", b"0" * (1 << 16), again=True), "unknown-transfer": sent(b"Transfer-Encoding: gzip\r\n", GOOD),
    "bomb-gzip": packed(BOMB, b"gzip"), "bomb-x-gzip": packed(BOMB, b"x-gzip"), "bomb-deflate": packed(zlib.compress(ZEROS), b"deflate"),
    "bomb-bare": packed(bare_deflate(ZEROS), b"deflate"), "bomb-in-a-bomb": packed(gzip.compress(BOMB), b"gzip, gzip"),
    "bomb-chunked": sent(b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", chunked(BOMB)),
    "members": packed(gzip.compress(b"") * 10_000, b"gzip"), "gzip-cut": packed(gzip.compress(GOOD)[:-9], b"gzip"),
    "gzip-and-more": packed(gzip.compress(GOOD) + b"more", b"gzip"), "no-gzip": packed(GOOD, b"gzip"),
    "brotli": packed(GOOD, b"br"), "zstd": packed(GOOD, b"zstd"), "odd-packing": packed(GOOD, b"\x1b[2J"),
    "gzip-nothing": packed(b"", b"gzip"), "long": Answer(body=b" " * (MOST + 1)), "refused": status(400), "too-large": status(413),
    "unprocessable": status(422), "switching": Answer(raw=(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",)),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_answer_is_one_line_and_counted(server: JudgeServer, name: str, tmp_path: Path) -> None:
    server.script = [MALFORMED[name]] * 3
    endpoint = make(server.url, attempts=1)
    with pytest.raises(Malformed) as caught:
        endpoint.ask(MESSAGES)
    line = str(caught.value)
    assert line.startswith(f"evaluate.judge.endpoint: {server.url}: ")
    assert line.isprintable()
    assert len(line) < 400
    judged = judge([Duel("Why?", "Because.", "No.")], Cache(tmp_path).asking(endpoint.params, endpoint.ask))
    assert (judged.malformed, judged.unasked, judged.outcomes) == (2, 0, [None])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # it may get better


GOOD_FORMS = {
    "chunked": sent(b"Transfer-Encoding: chunked\r\n", chunked(GOOD)), "no-length": sent(b"", GOOD),
    "bytewise": sent(b"", *(GOOD[k : k + 9] for k in range(0, len(GOOD), 9))), "gzip": packed(gzip.compress(GOOD), b"gzip"),
    "deflate": packed(zlib.compress(GOOD), b"deflate"), "bare-deflate": packed(bare_deflate(GOOD), b"Deflate"),
    "identity": packed(GOOD, b"identity"), "mark": Answer(body=b"\xef\xbb\xbf" + GOOD), "plain": Answer(body=GOOD, kind="text/plain"),
    "created": Answer(201, GOOD), "after-continue": Answer(raw=(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK + b"\r\n", GOOD)),
    "null-error": Answer(body=GOOD[:-1] + b', "error": null}'), "odd-usage": Answer(body=GOOD.replace(b'"total_tokens": 10', b'"total_tokens": "many"')),
    "usage-list": Answer(body=GOOD.replace(b'"usage": {', b'"usage": [], "x": {')), "huge-usage": Answer(body=GOOD.replace(b'"total_tokens": 10', b'"total_tokens": -1')),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD_FORMS)
def test_a_completion_in_an_unusual_form_is_read(server: JudgeServer, name: str) -> None:
    server.script = [GOOD_FORMS[name]]
    assert make(server.url).ask(MESSAGES).text == '{"verdict": "A"}'


def test_a_bomb_is_never_unpacked(server: JudgeServer) -> None:
    server.script = [MALFORMED["bomb-gzip"], MALFORMED["for-ever"]]
    tracemalloc.start()
    try:
        for _ in range(2):
            with pytest.raises(Malformed, match="is longer than 4 MiB"):
                make(server.url, attempts=1).ask(MESSAGES)
        assert tracemalloc.get_traced_memory()[1] < 8 * MOST < len(ZEROS)
    finally:
        tracemalloc.stop()


DRIPS = {
    "body": sent(b"", b" ", pause_s=0.02, again=True),
    "status": Answer(raw=(b"HTTP/1.1 200 ", b"O"), pause_s=0.02, again=True),
    "header": Answer(raw=(OK, b"X: a\r\n"), pause_s=0.02, again=True),
    "chunks": sent(b"Transfer-Encoding: chunked\r\n", b"1\r\n \r\n", pause_s=0.02, again=True),
    "continue": Answer(raw=(b"HTTP/1.1 100 Continue\r\n\r\n",), pause_s=0.02, again=True),
    "early-hints": Answer(raw=(b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n",), pause_s=0.02, again=True),
    "silence-within": sent(b"Content-Length: 500\r\n", GOOD[:20], pause_s=600),
}


@pytest.mark.parametrize("name", DRIPS)
def test_a_request_ends_on_time_whoever_drips(server: JudgeServer, name: str) -> None:
    """Each byte comes well within `timeout_s`, and there is always another one."""
    server.script = [DRIPS[name]]
    before = threading.active_count()
    with pytest.raises(UserError, match=r"no answer within 0.3 s \(timeout_s\), tried once"):
        make(server.url, timeout_s=0.3, attempts=1).ask(MESSAGES)
    assert make(server.url).ask(MESSAGES).text == '{"verdict": "A"}'
    for _ in range(500):  # nobody goes on listening
        if threading.active_count() <= before + 3:  # the server's own
            return
        time.sleep(0.01)
    raise AssertionError("threads are left")


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait())
    with pytest.raises(UserError, match=r"no answer within 0.2 s"):
        make("https://judge.example/v1", timeout_s=0.2, attempts=1).ask(MESSAGES)
    over.set()


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308, 399])
def test_redirects_are_told_and_not_followed(server: JudgeServer, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with JudgeServer() as elsewhere:
        server.script = [Answer(code, headers={"Location": f"{elsewhere.url}/chat/completions?key={KEY}"})]
        with pytest.raises(UserError) as caught:
            make(server.url, key_env="JUDGE_KEY").ask(MESSAGES)
        assert f"redirects to http://127.0.0.1 (HTTP {code}); redirects are not followed" in str(caught.value)
        assert (len(server.asked), elsewhere.asked, elsewhere.headers) == (1, [], [])


@pytest.mark.parametrize(
    "location", ["", "//[", "http://[::1", f"/{KEY}", "javascript:alert(1)", "http://a:b@c\x1b[2J/"]
)
def test_redirects_to_nowhere(server: JudgeServer, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.script = [Answer(302, headers={"Location": location})]
    with pytest.raises(UserError) as caught:
        make(server.url, key_env="JUDGE_KEY").ask(MESSAGES)
    assert "redirects" in str(caught.value)
    assert str(caught.value).isprintable()
    assert KEY not in str(caught.value)


ECHOES: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key, "bearer": lambda key: f"Bearer {key}", "half": lambda key: key[:12] + "***",
    "tail": lambda key: "***" + key[-9:], "upper": str.upper, "backwards": lambda key: key[::-1],
    "spaced": " ".join, "percent": lambda key: "".join(f"%{ord(sign):02x}" for sign in key),
    "hex": lambda key: key.encode().hex(), "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64-bearer": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64-url": lambda key: base64.urlsafe_b64encode(f"x{key}".encode()).decode(),
    "escaped": lambda key: "".join(f"\\u{ord(sign):04x}" for sign in key),
    "lines": lambda key: key[:10] + "\n" + key[10:],
}  # fmt: skip


@pytest.mark.parametrize("code", [200, 400, 401, 500])
@pytest.mark.parametrize("name", ECHOES)
def test_a_key_that_the_server_says_back(  # noqa: PLR0917 - pytest passes them by name
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str,
    code: int,
) -> None:  # fmt: skip
    """In an error, in a page, or as the answer itself: in no message, traceback, log or file."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    echo = ECHOES[name](KEY)
    bodies = [json.dumps({"error": {"message": echo}}), f"<html>{echo}</html>", json.dumps({"detail": [echo]})]
    answers = [Answer(code, body.encode()) for body in bodies]
    if code == 200:
        answers += [completion(echo), completion(f'{{"verdict": "A", "key": "{echo}"}}'), content(json.dumps([echo]))]
    for answer in answers:
        server.script = [answer]
        endpoint = make(server.url, key_env="JUDGE_KEY", attempts=1)
        try:
            Cache(tmp_path).asking(endpoint.params, endpoint.ask)(MESSAGES)
        except UserError as error:
            told = "".join(traceback.format_exception(error)) + repr(error) + repr(endpoint)
            assert not repeats(told, KEY), told
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert not repeats(caplog.text, KEY)
    for path in tmp_path.rglob("*.json"):
        assert not repeats(path.read_text(), KEY)


def test_headers_are_few_and_only_what_is_meant(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Secret: not-for-you")
    make(server.url).ask(MESSAGES)
    assert set(server.headers[0]) == {
        "host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length",
    }  # fmt: skip
    assert "not-for-you" not in str(server.headers)


def test_organisation_and_project_are_openais_alone() -> None:
    environment = {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj 1\n"}
    assert headers("k", "https://api.openai.com/v1/chat/completions", environment)["OpenAI-Organization"] == "org-1"
    for key, address in (
        ("k", "http://api.openai.com/v1"), ("k", "https://api.openai.com.evil.example/v1"), ("", "https://api.openai.com/v1"),
        ("k", "https://evil.example/api.openai.com"), ("k", "http://127.0.0.1/v1"), ("k", "https://xapi.openai.com/v1"),
    ):  # fmt: skip
        assert not [name for name in headers(key, address, environment) if name.startswith("OpenAI")]
    assert "OpenAI-Project" not in headers("k", "https://api.openai.com/v1", environment)  # it is no header's value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"endpoint": f"https://user:{KEY}@judge.example/v1"}, "without a key, user, query or fragment"),
        ({"endpoint": f"https://{KEY}@judge.example/v1"}, "without a key, user, query or fragment"),
        ({"endpoint": f"https://judge.example/v1?api_key={KEY}"}, "without a key, user, query or fragment"),
        ({"endpoint": f"https://judge.example/v1#{KEY}"}, "without a key, user, query or fragment"),
        ({"endpoint": f"https://judge.example/{KEY}/v1"}, "without a key, user, query or fragment"),
        ({"endpoint": f"https://judge.example/{KEY.replace('-', '%2D')}/v1"}, "without a key, user, query or fragment"),
        ({"endpoint": f"https//x:{KEY}@judge.example"}, "without a key, user, query or fragment"),
        ({"key_env": KEY}, "key_env must be the name of an environment variable"),
        ({"key_env": "hf_AbCdEfGhIjKlMnOpQrStUvWx12"}, "key_env must be the name of an environment variable"),
        ({"key_env": "a1b2c3d4e5f60718293a4b5c6d7e8f90"}, "key_env must be the name of an environment variable"),
        ({"key_env": "Bearer abc"}, "key_env must be the name of an environment variable"),
        ({"endpoint": "http://judge.example/v1", "key_env": "JUDGE_KEY"}, "must begin with https:// where key_env"),
        ({"endpoint": "http://10.0.0.5:8000/v1", "key_env": "JUDGE_KEY"}, "must begin with https:// where key_env"),
        ({"endpoint": "http://127.0.0.1.evil.example/v1", "key_env": "JUDGE_KEY"}, "must begin with https://"),
        ({"endpoint": "http://localhost.evil.example/v1", "key_env": "JUDGE_KEY"}, "must begin with https://"),
        ({"endpoint": "https://judge.example:99999/v1"}, "endpoint must be the address"),
        ({"endpoint": "https://[::1/v1"}, "endpoint must be the address"), ({"endpoint": "https:///v1"}, "endpoint must"),
        ({"endpoint": "https://judge.example/\x1b[2J"}, "endpoint must be the address"),
        ({"endpoint": "https://judge.example/v 1"}, "endpoint must be the address"), ({"endpoint": "file:///x"}, "endpoint"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prompts", [0, 5])
def test_parameters_never_hold_a_key(changes: dict[str, str], words: str, prompts: int) -> None:
    """They are kept in files and in git, also where the judge is off."""
    with pytest.raises(UserError) as caught:
        make(changes.get("endpoint", "http://127.0.0.1:1/v1"), **changes, prompts=prompts)
    line = str(caught.value)
    assert words in line
    assert line.isprintable()
    for secret in (KEY, "hf_AbCd", "a1b2c3d4"):
        assert secret not in line


@pytest.mark.parametrize(
    ("endpoint", "key_env"),
    [
        ("http://127.0.0.1:8000/v1", "JUDGE_KEY"), ("http://localhost:8000/v1", "JUDGE_KEY"), ("http://[::1]:8000/v1", "K"),
        ("http://127.9.9.9/v1", "JUDGE_KEY"), ("https://judge.example/v1", "my_company_openai_api_key_2"),
        ("http://vllm:8000/v1", ""), ("https://gateway.example/v1/0a1b2c3d4e5f60718293a4b5c6d7e8f9/openai", "OPENAI_API_KEY"),
    ],
)  # fmt: skip
def test_ordinary_endpoints_are_allowed(endpoint: str, key_env: str) -> None:
    assert make(endpoint, key_env=key_env).params.endpoint == endpoint


@pytest.mark.parametrize("held", ["sk-a\nX-Evil: 1", "sk-ä", "sk a", "sk-\x00", "sk-\u202e"])
def test_a_key_that_is_none_is_not_shown(server: JudgeServer, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "JUDGE_KEY": held})
    with pytest.raises(UserError, match="JUDGE_KEY holds something that no key is") as caught:
        make(server.url, key_env="JUDGE_KEY").ask(MESSAGES)
    assert held not in str(caught.value)
    assert server.asked == []


def test_a_key_in_the_path_is_found_by_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "correct-horse-battery")
    with pytest.raises(UserError, match="it holds the key that JUDGE_KEY names") as caught:
        make("https://judge.example/correct-horse-battery/v1", key_env="JUDGE_KEY").ask(MESSAGES)
    assert "horse" not in str(caught.value)


def test_a_proxy_of_the_environment_is_used_but_not_before_this_machine(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JudgeServer() as proxy:  # what is sent to a proxy has a whole address in its first line
        address = proxy.url.removesuffix("/v1")
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, address)
        assert make(server.url).ask(MESSAGES).text == '{"verdict": "A"}'
        assert (len(server.asked), proxy.asked) == (1, [])
        make("http://judge.example/v1").ask(MESSAGES)
        assert proxy.asked[0]["path"] == "http://judge.example/v1/chat/completions"
        monkeypatch.setenv("NO_PROXY", "judge.example")
        monkeypatch.setenv("no_proxy", "judge.example")
        with pytest.raises(UserError, match="cannot be reached"):
            make("http://judge.example/v1", attempts=1).ask(MESSAGES)
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "address", ["socks5://me:hush-hush@127.0.0.1:1", "nonsense://me:hush-hush@x", "http://me:hush-hush@[::1"]
)
def test_a_proxy_of_no_use_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(UserError) as caught:
        make("https://judge.example/v1", attempts=1, timeout_s=5.0).ask(MESSAGES)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_after_many_malformed_answers_in_a_row_nothing_more_is_asked(server: JudgeServer, tmp_path: Path) -> None:
    server.script = [Answer(body=b"{}")] * 10 + [Answer(body=GOOD)] + [Answer(body=b"{}")] * 99
    endpoint = make(server.url, attempts=1)
    duels = [Duel(f"Question {k}?", "yes", "no") for k in range(30)]
    judged = judge(duels, Cache(tmp_path).asking(endpoint.params, endpoint.ask))
    assert (judged.malformed, judged.unasked) == (10 + client.MOST_IN_A_ROW, 60 - 11 - client.MOST_IN_A_ROW)
    assert len(server.asked) == 11 + client.MOST_IN_A_ROW
    assert judged.note() == "the judge gave no verdict on 30 of 60 questions (malformed answers), and 29 were not asked"
    metrics = judged.metrics("j_")
    assert (metrics["j_malformed"], metrics["j_unasked"]) == (30, 29)
    with pytest.raises(BudgetSpent):
        endpoint.ask(MESSAGES)


def test_half_of_a_surrogate_pair_in_a_reply_is_asked_about_in_unicode(server: JudgeServer) -> None:
    server.opinion = lambda a, b: '{"verdict": "tie"}'
    assert make(server.url).ask(question("p\ud800", "a\udfff", "b")).text == '{"verdict": "tie"}'
    json.dumps(server.asked[0], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "answer",
    [
        '{"verdict": "A", "verdict": "B"}', '{"verdict": "A", "verdict": "A"}', '{"verdict": "A", "p": NaN}',
        '{"verdict": "A", "p": ' + "9" * 5000 + "}", '{"verdict": "A", "p": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"verdict": true}', '{"verdict": 1}', '{"verdict": {"verdict": "C"}}', '{"verdict": "\ud800"}', '{"verdict": "Ａ"}',
        "{" * 100_000 + "}" * 100_000, '{"verdict": "A' + "\x00" * 10 + '"}', '{"verdict":"A"', "\x1b[2J",
    ],
)  # fmt: skip
def test_verdicts_that_are_none(answer: str) -> None:
    assert read_choice(answer) is None


DAMAGE: list[bytes] = [
    b"", b"{", b"null", b"[]", b'"x"', b'{"text": "x"}', b'{"text": 1, "tokens": 1}', b'{"text": "x", "tokens": 1e999}',
    b'{"text": "x", "tokens": true}', b'{"text": "x", "tokens": -1}', b'{"text": "x", "tokens": "1"}', b"\xff\xfe", b"[" * 100_000,
    b'{"text": "x", "tokens": ' + b"9" * 5000 + b"}", b'{"question": "another", "text": "{\\"verdict\\": \\"B\\"}", "tokens": 1}',
    b'{"question": 7, "text": "x", "tokens": 1}', b"\x00" * 4096,
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(DAMAGE)))
def test_a_damaged_answer_in_the_cache_is_asked_for_again(server: JudgeServer, tmp_path: Path, case: int) -> None:
    endpoint, cache = make(server.url), Cache(tmp_path)
    path = cache.name(endpoint.params, MESSAGES)
    path.parent.mkdir(parents=True)
    path.write_bytes(DAMAGE[case])
    assert cache.asking(endpoint.params, endpoint.ask)(MESSAGES).text == '{"verdict": "A"}'
    assert cache.asking(endpoint.params, endpoint.ask)(MESSAGES).text == '{"verdict": "A"}'
    assert endpoint.requests == 1


def test_what_is_no_file_in_the_cache(server: JudgeServer, tmp_path: Path) -> None:
    endpoint, cache = make(server.url), Cache(tmp_path)
    path = cache.name(endpoint.params, MESSAGES)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert cache.asking(endpoint.params, endpoint.ask)(MESSAGES).text == '{"verdict": "A"}'
    path.unlink()
    path.symlink_to("/dev/zero")
    assert cache.asking(endpoint.params, endpoint.ask)(MESSAGES).text == '{"verdict": "A"}'
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert cache.asking(endpoint.params, endpoint.ask)(MESSAGES).text == '{"verdict": "A"}'
    assert path.stat().st_size < 1000


def test_a_settled_run_whose_answers_are_gone_is_not_settled(server: JudgeServer, tmp_path: Path) -> None:
    endpoint, cache = make(server.url), Cache(tmp_path)
    ask, path = cache.asking(endpoint.params, endpoint.ask), cache.name(endpoint.params, MESSAGES)
    cache.settle("plan", [path])
    assert not cache.settled("plan")
    ask(MESSAGES)
    cache.settle("plan", [path])
    assert cache.settled("plan")
    (note,) = (tmp_path / "settled").iterdir()
    for held in (b"{", b"{}", b'{"questions": 3}', b'{"questions": ["../../x"]}', b'{"questions": [3]}', b"[" * 10**5):
        before = note.read_bytes()
        note.write_bytes(held)
        assert not cache.settled("plan")
        note.write_bytes(before)
    path.write_text("{")
    assert not cache.settled("plan")


def test_the_reader_alone_holds_against_noise() -> None:
    """Each answer with one byte changed is either read or called what it is."""
    for at in range(0, len(GOOD), 2):
        for byte in (0x00, 0x22, 0x5C, 0xFF):
            with contextlib.suppress(NoCompletion):
                read_completion(GOOD[:at] + bytes([byte]) + GOOD[at + 1 :], KEY)


def test_what_waits_is_forgotten_by_the_clock() -> None:
    """Waits that no clock has are none or too long, never a traceback."""
    for value in (
        "nan",
        "inf",
        "-inf",
        "-5",
        "1e400",
        "9" * 400,
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "\x00",
        "",
        "7 apples",
    ):
        wait = client._retry_after(value)
        assert wait is None or wait >= 0
    clock = FakeClock()
    with JudgeServer() as server:
        server.script = [status(503, retry_after="inf")]
        with pytest.raises(UserError, match="asks to wait inf s"):
            make(server.url, clock).ask(MESSAGES)
    assert clock.slept == []


def test_nothing_of_the_key_is_left_behind_in_the_process(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    endpoint: Any = make(server.url, key_env="JUDGE_KEY")
    endpoint.ask(MESSAGES)
    assert KEY not in repr(endpoint)
    assert KEY not in repr(endpoint.params.model_dump())
    assert KEY not in " ".join(sys.argv)
