"""The page on which people compare two replies: Starlette routes around a Session.

Replies are hostile text: they are escaped, the page allows no script but its own, and nothing from elsewhere. Whoever
has the token may answer; a page of another site cannot (Origin, Host), and no address leaves this one (Referrer).
"""

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.text import printable
from rlhf.label.queue import Turn
from rlhf.label.session import Session, check_name
from rlhf.label.turns import turns_of

TEMPLATES = Path(__file__).with_name("templates")
HOSTS = ("127.0.0.1", "localhost")
MOST_BYTES = 4096  # of an answer's form
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # hides the token's address; "no-referrer" gives our own forms the origin null
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = {"page.css": "text/css", "page.js": "text/javascript"}


def make_app(session: Session, *, token: str, port: int, guidelines: str) -> Any:
    """Make the application. `guidelines`: Markdown, without HTML of its own.

    Routes below /<token>: `/` asks for a name, `/as/<name>` shows the next question, and takes answers (POST) at
    `/as/<name>/answer` and `/as/<name>/undo`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markdown_it import MarkdownIt
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    template, origins = environment.get_template("page.html"), {f"http://{host}:{port}" for host in HOSTS}

    def answer(status: int, body: str, kind: str = "text/html") -> Response:
        return Response(body, status_code=status, media_type=f"{kind}; charset=utf-8", headers=HEADERS)

    beside = MarkdownIt("commonmark", {"html": False}).render(printable(guidelines, lines=True))

    def page(status: int = 200, **shown: Any) -> Response:
        values = {"turn": None, "name": None, "progress": None, "note": "", "token": token, "guidelines": beside}
        return answer(status, template.render(**(values | shown)))

    def guarded(work: Callable[[Request, dict[str, str]], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            from starlette.concurrency import run_in_threadpool

            if not hmac.compare_digest(request.path_params["token"].encode(), token.encode()):
                return answer(404, "not found", "text/plain")
            form: dict[str, str] = {}
            if request.method == "POST":
                if request.headers.get("origin") not in origins:
                    return answer(403, "refused: this form is not from this page", "text/plain")
                body = b""
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        return answer(413, "refused: too long", "text/plain")
                form = _form(body)
            try:
                return await run_in_threadpool(work, request, form)
            except UserError as error:
                return page(400, note=printable(str(error)))

        return endpoint

    def named(request: Request) -> str:
        name = str(request.path_params["name"])
        check_name(name)
        return name

    def back(name: str) -> Response:
        return RedirectResponse(f"/{token}/as/{name}", status_code=303, headers=HEADERS)

    def start(request: Request, _: dict[str, str]) -> Response:
        name = request.query_params.get("name", "")
        if not name:
            return page()
        check_name(name)
        return back(name)

    def show(request: Request, _: dict[str, str]) -> Response:
        name = named(request)
        turn = session.next(name)
        return page(name=name, progress=session.progress(name), turn=None if turn is None else shown_turn(turn))

    def say(request: Request, form: dict[str, str]) -> Response:
        name, look = named(request), form.get("look", "")
        session.answer(name, form.get("question", ""), int(look) if look in ("1", "2") else 0, form.get("said", ""))
        return back(name)

    def undo(request: Request, _: dict[str, str]) -> Response:
        name = named(request)
        session.undo(name)
        return back(name)

    def file(request: Request, _: dict[str, str]) -> Response:
        name = request.path_params["file"]
        return answer(200, (TEMPLATES / name).read_text(encoding="utf-8"), _FILES[name])

    routes = [
        Route("/{token}/", guarded(start)),
        *(Route("/{token}/" + name, _with(guarded(file), name)) for name in _FILES),
        Route("/{token}/as/{name}", guarded(show)),
        Route("/{token}/as/{name}/answer", guarded(say), methods=["POST"]),
        Route("/{token}/as/{name}/undo", guarded(undo), methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))])


def shown_turn(turn: Turn) -> dict[str, Any]:
    """Give what the template shows of a question: turns of the prompt, both replies by side."""
    texts = (turn.question.a, turn.question.b) if turn.left == "A" else (turn.question.b, turn.question.a)
    left, right = (printable(text.strip(), lines=True) for text in texts)
    turns = turns_of(turn.question)
    return {"id": turn.question.id, "look": turn.look, "turns": turns, "left": left, "right": right}


def _form(body: bytes) -> dict[str, str]:
    from urllib.parse import parse_qsl

    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=8))
    except ValueError:
        return {}


def _with(endpoint: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    async def served(request: Any) -> Any:
        request.path_params["file"] = name
        return await endpoint(request)

    return served
