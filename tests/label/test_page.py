"""The page over a real socket, and in a real browser by keyboard alone: hostile replies, hostile pages, kills, two people."""

import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from rlhf.core.artifacts import write_jsonl
from rlhf.core.errors import UserError
from rlhf.label.serve import GUIDELINES, read_guidelines, read_pairs, serve
from rlhf.label.session import Session
from rlhf.labels.read import read_labels
from rlhf.labels.record import Question
from tests.report.test_browser import CHROME, DRIVER, LACKING

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[2J\u202e{{ 7*7 }}"
served = pytest.mark.skipif(
    any(__import__("importlib.util").util.find_spec(name) is None for name in ("starlette", "uvicorn")),
    reason="the page was not served: no starlette and uvicorn (pip install 'rlhf-pipeline[label]')",
)


@dataclass
class Page:
    """A served page in a process of its own."""

    folder: Path
    process: "subprocess.Popen[str]"
    address: str

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    @property
    def path(self) -> str:
        return urlsplit(self.address).path

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Origin": f"http://127.0.0.1:{self.port}"} if method == "POST" else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, {name.lower(): value for name, value in answer.getheaders()}

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        self.process.communicate()
        return self.process.returncode


def begin(folder: Path, port: int = 0, **env: str) -> Page:
    command = [
        sys.executable, "-m", "stages.label", "serve", "--port", str(port), "--pairs", str(folder / "pairs.jsonl"),
        "--labels", str(folder / "labels"), "--overlap", "5",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:"), process.communicate()
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", urlsplit(address).port or 0)) == 0:
                break
        time.sleep(0.02)
    return Page(folder, process, address)


def pairs(folder: Path, count: int) -> None:
    rows = [
        {"prompt": f"\n\nHuman: Question {k}?\n\nAssistant:", "a": f"good {k}", "b": f"bad {k}"} for k in range(count)
    ]
    rows[0] |= {"a": HOSTILE, "b": "plain", "prompt": HOSTILE}
    write_jsonl(folder / "pairs.jsonl", rows)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One page for all tests here that do not end it; each has names of its own."""
    folder = tmp_path_factory.mktemp("page")
    pairs(folder, 60)
    page = begin(folder)
    yield page
    page.end(signal.SIGKILL)


def question_of(text: str) -> tuple[str, str]:
    found = re.search(r'name="question" value="([0-9a-f]{16})">\s*<input type="hidden" name="look" value="(\d)"', text)
    assert found is not None
    return found[1], found[2]


@served
def test_who_may_ask_and_what_comes_with_an_answer(page: Page) -> None:
    status, text, headers = page.ask("GET", page.path)
    assert status == 200
    assert "Your name" in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert (headers["referrer-policy"], headers["x-content-type-options"]) == ("same-origin", "nosniff")
    assert (headers["cache-control"], "server" in headers) == ("no-store", False)
    assert page.ask("GET", page.path + "page.js")[2]["content-type"].startswith("text/javascript")
    for path in (
        "/",
        "/x/",
        "/" + "a" * 22 + "/",
        page.path[:-2] + "/",
        page.path + "../",
        page.path + "secret",
        "/%00/",
    ):
        assert page.ask("GET", path)[0] == 404, path
    for host in ("evil.example", "127.0.0.1.evil.example", "192.168.0.1", ""):
        assert page.ask("GET", page.path, Host=host)[0] == 400, host
    assert page.ask("GET", page.path, Host=f"localhost:{page.port}")[0] == 200


@served
def test_a_page_of_another_site_answers_nothing(page: Page) -> None:
    status, text, _ = page.ask("GET", page.path + "as/eve")
    question, look = question_of(text)
    body = urlencode({"question": question, "look": look, "said": "left"})
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"https://127.0.0.1:{page.port}",
        f"http://127.0.0.1:{page.port + 1}",
    ):
        assert page.ask("POST", page.path + "as/eve/answer", body, Origin=origin)[0] == 403, origin
    assert page.ask("GET", page.path + "as/eve/answer?" + body)[0] == 405
    assert page.ask("POST", page.path + "as/eve/answer", "x" * 100_000)[0] == 413
    assert not (page.folder / "labels" / "people-eve.jsonl").exists()
    status, _, headers = page.ask("POST", page.path + "as/eve/answer", body)
    assert (status, headers["location"]) == (303, page.path + "as/eve")
    assert (
        len(read_labels(page.folder / "labels" / "people-eve.jsonl").answers) == 1
    )  # on disk before the next pair is shown


@served
@pytest.mark.parametrize(
    "body",
    ["", "said=left", "question=0000000000000000&look=1&said=left", "look=9", "%ff%fe=1", "a=1&" * 50, "\x00\x01"],
)
def test_odd_answers(page: Page, body: str) -> None:
    status, text, _ = page.ask("POST", page.path + "as/odd/answer", body)
    assert status == 400
    assert 'role="alert"' in text
    assert page.ask("GET", page.path + "as/..%2F..%2Fetc")[0] in (400, 404)
    assert page.ask("GET", page.path + "?" + urlencode({"name": "../x\x1b[2J"}))[0] == 400
    assert not (page.folder / "labels" / "people-odd.jsonl").exists()


@served
def test_two_people_at_once(page: Page) -> None:
    def work(name: str) -> None:
        for _ in range(8):
            question, look = question_of(page.ask("GET", page.path + f"as/{name}")[1])
            body = urlencode({"question": question, "look": look, "said": "left"})
            assert page.ask("POST", page.path + f"as/{name}/answer", body)[0] == 303

    threads = [threading.Thread(target=work, args=[name]) for name in ("kim", "tom")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = {}
    for name in ("kim", "tom"):
        found = read_labels(page.folder / "labels" / f"people-{name}.jsonl")
        assert len(found.answers) == 8
        assert set(found.left_out.values()) == {0}
        asked[name] = {one.prompt for one in found.answers}
    assert len(asked["kim"] & asked["tom"]) >= 5  # the overlap


@served
def test_what_a_reply_holds_stays_text(page: Page) -> None:
    texts = []
    for _ in range(40):
        text = page.ask("GET", page.path + "as/ann")[1]
        texts.append(text)
        question, look = question_of(text)
        page.ask("POST", page.path + "as/ann/answer", urlencode({"question": question, "look": look, "said": "skip"}))
    whole = "".join(texts)
    assert "&lt;script&gt;" in whole
    assert "\\x1b[2J\\u202e{{ 7*7 }}" in whole
    assert not re.search("[\x1b\u202e]|<script>|<img", whole)
    assert "good" in whole
    assert not re.search(r"ppo|sft", whole)


@served
@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(one, marks=pytest.mark.thorough) for one in (signal.SIGTERM, signal.SIGINT))],
)
def test_a_kill_loses_nothing_and_asks_nothing_twice(tmp_path: Path, number: signal.Signals) -> None:
    pairs(tmp_path, 8)
    seen = []
    for _ in range(2):
        page = begin(tmp_path, RLHF_LABEL_TOKEN="same-token-for-a-test")
        assert page.path == "/same-token-for-a-test/"
        for _ in range(4):
            question, look = question_of(page.ask("GET", page.path + "as/ann")[1])
            seen.append(question)
            page.ask(
                "POST", page.path + "as/ann/answer", urlencode({"question": question, "look": look, "said": "left"})
            )
        code = page.end(number)
        assert code == (-9 if number == signal.SIGKILL else 130)
    assert len(set(seen)) == 8
    assert len(read_labels(tmp_path / "labels").answers) == 8


@served
def test_guidelines_are_markdown_and_nothing_more(tmp_path: Path) -> None:
    from starlette.applications import Starlette

    from rlhf.label.app import make_app

    session = Session.start([Question(prompt="p", a="a", b="b")], tmp_path, seed=0, overlap=0)
    text = "# Be kind\n\n- *short*\n- <script>x</script> [a](javascript:x) [b](https://x.example) \x1b[2J"
    app = make_app(session, token="t", port=1, guidelines=text)
    assert isinstance(app, Starlette)
    sent: list[dict[str, Any]] = []

    async def asked() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def answered(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/t/as/ann", "raw_path": b"/t/as/ann", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1")], "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2),
    }  # fmt: skip
    asyncio.run(app(scope, asked, answered))
    page = b"".join(message.get("body", b"") for message in sent).decode()
    assert "<h1>Be kind</h1>" in page
    assert "<li><em>short</em></li>" in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert 'href="javascript' not in page
    assert "\\x1b[2J" in page


@served
def test_a_port_in_use_is_one_line(page: Page) -> None:
    command = [
        sys.executable, "-m", "stages.label", "serve", "--port", str(page.port), "--pairs", str(page.folder / "pairs.jsonl"),
        "--labels", str(page.folder / "labels"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: label: port {page.port} of 127.0.0.1 is in use; --port takes another, 0 any that is free\n"
    )


@served
def test_a_pair_is_there_at_once(page: Page) -> None:
    times = []
    for _ in range(12):
        started = time.perf_counter()
        question, look = question_of(page.ask("GET", page.path + "as/pace")[1])
        page.ask("POST", page.path + "as/pace/answer", urlencode({"question": question, "look": look, "said": "tie"}))
        times.append(time.perf_counter() - started)
    print(f"longest of an answer and the next pair: {sorted(times)[-1] * 1000:.0f} ms")


def test_without_the_libraries_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session.start([Question(prompt="p", a="a", b="b")], tmp_path, seed=0, overlap=0)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"uvicorn is not installed; `pip install 'rlhf-pipeline\[label\]'`"):
        serve(session, port=0, guidelines="", say=print)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": "p", "a": "x"}', "pairs.jsonl:2: b: missing; every key needs a value"), ("{", "pairs.jsonl:2: not a line of JSON"),
        ('{"prompt": "p", "a": "x", "b": " x"}', "pairs.jsonl:2: both replies are the same"), ('{"prompt": "", "a": "x", "b": "y"}', "prompt: "),
        ('{"prompt": "p", "a": 1, "b": "y"}', "pairs.jsonl:2: a: "), ('{"prompt": "p", "a": "x", "b": "y", "c": 1}', "c: unknown key"),
    ],
)  # fmt: skip
def test_pairs_that_are_none(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "p", "a": "x", "b": "y"}\n' + row + "\n")
    with pytest.raises(UserError) as caught:
        read_pairs(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_guidelines(tmp_path: Path) -> None:
    assert read_guidelines(tmp_path / "none.md") == GUIDELINES
    (tmp_path / "own.md").write_text("# Mine\n")
    assert read_guidelines(tmp_path / "own.md") == "# Mine\n"
    (tmp_path / "own.md").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"own.md: cannot be read as UTF-8 text"):
        read_guidelines(tmp_path / "own.md")


@served
@pytest.mark.skipif(bool(LACKING), reason=f"the page was not opened: no {' and no '.join(LACKING)}")
@pytest.mark.parametrize("number", [6, pytest.param(50, marks=pytest.mark.thorough)])
def test_pairs_by_keyboard_alone_in_a_real_browser(tmp_path: Path, number: int) -> None:
    pairs(tmp_path, 60)
    page = begin(tmp_path)
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    options = webdriver.ChromeOptions()
    options.binary_location = CHROME or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=380,800"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver: Any = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER, log_output=os.devnull))
    try:
        driver.get(page.address)
        press = lambda key: ActionChains(driver).send_keys(key).perform()  # noqa: E731
        press("ann")  # the name's field has the focus
        press(Keys.ENTER)
        said = {"a": "left", "b": "right", "t": "tie", "x": "both_bad", "s": "skip"}
        for count in range(number):
            wait_until(lambda count=count: f"ann: {count} done" in driver.page_source)
            assert driver.title == "Which reply is better?"
            press(list(said)[count % 5])
        wait_until(lambda: f"ann: {number} done" in driver.page_source)
        press("u")
        wait_until(lambda: f"ann: {number - 1} done" in driver.page_source)
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]] == []
    finally:
        driver.quit()
        page.end(signal.SIGKILL)
    found = read_labels(page.folder / "labels")
    assert len(found.answers) == number - 1
    assert found.left_out["undone"] == 1
    assert found.left_out["contradicting"] == found.left_out["repeated"] == 0


def wait_until(enough: Any) -> None:
    for _ in range(1500):
        if enough():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come")
