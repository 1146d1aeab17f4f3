"""Serve the labelling page on 127.0.0.1."""

import errno
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.label.app import HOSTS, make_app
from rlhf.label.session import Session
from rlhf.label.turns import Asked
from rlhf.labels.record import Question

GUIDELINES = (
    "Pick the reply that is more helpful, honest and harmless. Length by itself is no merit.\n\n"
    "Both bad: neither answers, or both do harm. Skip: you cannot tell."
)


def read_pairs(path: Path) -> list[Question]:
    """Read the pairs to ask about: JSON lines with prompt, a, b, and where known policy_a, policy_b, round and the
    prompt's turns (`conversation`).

    Raises:
        UserError: file:line, what was found and what is expected.
    """
    questions: list[Question] = []
    for number, row in iter_jsonl(path):
        try:
            questions.append(check(Asked, row, where=f"{path}:{number}"))
        except UserError as error:
            raise UserError(str(error).split("\n")[0].replace(" (null takes the profile's)", "")[:400]) from None
        one = questions[-1]
        if one.a.strip() == one.b.strip():
            raise UserError(f"{path}:{number}: both replies are the same: there is nothing to compare")
    return questions


def read_guidelines(path: Path) -> str:
    """Read the guidelines that stand beside each question; a default where there is no such file."""
    if not path.is_file():
        return GUIDELINES
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def serve(session: Session, *, port: int, guidelines: str, say: Callable[[str], None]) -> None:
    """Serve until interrupted. `say` is told the address with its token, which is new each time unless RLHF_LABEL_TOKEN
    holds one.

    Raises:
        UserError: the port is in use, or Starlette and uvicorn are not installed.
    """
    uvicorn: Any = _library("uvicorn")
    for name in ("starlette", "markdown_it"):
        _library(name)
    with _bound(port) as listening:
        port = listening.getsockname()[1]
        token = os.environ.get("RLHF_LABEL_TOKEN", "").strip() or secrets.token_urlsafe(16)
        app = make_app(session, token=token, port=port, guidelines=guidelines)
        say(f"http://{HOSTS[0]}:{port}/{token}/")
        settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
        uvicorn.Server(settings).run(sockets=[listening])


def _bound(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOSTS[0], port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise UserError(f"label: port {port} of 127.0.0.1 {why}; --port takes another, 0 any that is free") from None
    return listening


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise UserError(f"label: {name} is not installed; `pip install 'rlhf-pipeline[label]'`") from None
