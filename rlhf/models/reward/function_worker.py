"""A reward function in a process of its own, so that one that hangs, crashes or prints does no harm to training.

    python -m rlhf.models.reward.function_worker module:function PARENT ALIVE

One JSON object a line. It says {"ready": true} or {"error": ...} once, then answers each {"number": n, "prompts":
[...], "responses": [...]} with {"number": n, "scores": [...]} or {"error": ...}: an answer is taken for its own
question only, and only from the process that was started, not from a fork of it. What the function prints goes to
stderr. PARENT is the process that started it, ALIVE a pipe that ends with that process; when it does, everything here
ends.

The function is the user's own code and has all of the user's rights. But variables of the
environment that look like keys are not handed on (`rlhf.core.secrets`).
"""

import contextlib
import ctypes
import importlib
import json
import math
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhf.core.text import printable

Function = Callable[[list[str], list[str]], Any]


class Unusable(Exception):  # noqa: N818 - what the function is
    """A reward function, or what it returned, is not what it should be; one line."""


def load(spec: str) -> Function:
    """The function that `module:function` names, after its own `check`, where it carries one.

    Raises:
        Unusable: what is wrong, in one line.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise Unusable(f"expected module:function, found {spec!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise Unusable(f"no module {error.name!r} in {Path.cwd()} or among the installed ones") from None
        raise Unusable(f"importing {module_name} raised {_raised(error)}") from None
    except BaseException as error:  # sys.exit too
        raise Unusable(f"importing {module_name} raised {_raised(error)}") from None
    try:
        function = getattr(module, name, None)
        check = getattr(function, "check", None)
        if callable(function) and callable(check):
            check()
    except BaseException as error:
        raise Unusable(f"raised {_raised(error)}") from None
    if not callable(function):
        found = "nothing" if function is None else _kind(function)
        raise Unusable(f"{module_name} has no function {name!r}; found {found}")
    known: Function = function
    return known


def scores(function: Function, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """What the function says, as one finite number a response. Raises Unusable: what is wrong, in one line."""
    try:
        said = function(list(prompts), list(responses))
        said = said.tolist() if hasattr(said, "tolist") else said  # tensors and arrays
        if not isinstance(said, list | tuple):
            raise Unusable(f"returned {_kind(said)} {_shown(said)}; expected a list of {len(responses)} numbers")
        items = list.copy(said) if isinstance(said, list) else tuple.__getitem__(said, slice(None))  # whatever it says
    except Unusable:
        raise
    except BaseException as error:  # sys.exit, exceptions of every kind
        raise Unusable(f"raised {_raised(error)}") from None
    if len(items) != len(responses):
        raise Unusable(f"returned {len(items)} scores for {len(responses)} responses")
    return [_number(index, item, responses[index]) for index, item in enumerate(items)]


def serve(spec: str) -> None:
    """Answer until stdin ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    own = os.getpid()

    def say(**said: object) -> None:
        if os.getpid() != own:  # the function has forked, and both return
            os._exit(1)
        out.write(json.dumps(said) + "\n")
        out.flush()

    try:
        function = load(spec)
    except Unusable as error:
        say(error=str(error))
        return
    say(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(number=request["number"], scores=scores(function, request["prompts"], request["responses"]))
        except Unusable as error:
            say(error=str(error))


def end_with(parent: int, alive: int) -> None:
    """See to it that this process and what it starts end when `parent` does, however it ends.

    The kernel kills this process (Linux); a small one beside it, which waits for the pipe's end, kills the group.
    """
    if os.fork() == 0:
        try:
            os.dup2(alive, 0)
            os.closerange(1, 4096)
            poll = select.poll()
            poll.register(0, 0)  # nothing but its end
            poll.poll()
        finally:
            os.killpg(0, signal.SIGKILL)
    os.close(alive)
    with contextlib.suppress(AttributeError, OSError):  # there is no such call elsewhere
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was quicker
        os.killpg(0, signal.SIGKILL)


def _number(index: int, item: object, response: str) -> float:
    try:
        number = None if isinstance(item, str | bytes | bytearray) else float(item)  # type: ignore[arg-type]
    except BaseException:  # whatever an object of its own making does
        number = None
    if number is None:
        raise Unusable(f"score {index} is {_kind(item)} {_shown(item)}; expected a number that a float has room for")
    if not math.isfinite(number):
        raise Unusable(f"score {index} is {number}, for the response {response!r:.60}")
    return number


def _shown(value: object) -> str:
    """The beginning of a value's repr, whatever that does."""
    try:
        return printable(repr(value))[:60]
    except BaseException:
        return "(its repr raises)"


def _kind(value: object) -> str:
    return printable(type.__getattribute__(type(value), "__name__"))[:60]


def _raised(error: BaseException) -> str:
    """Type, first line and where of an exception; the where is the innermost in the function's own files."""
    try:
        told = printable(" ".join(str(error).split()))[:160]
    except BaseException:
        told = "(its text raises)"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if len(own) > 1 else ""
    return f"{_kind(error)}{': ' if told else ''}{told}{where}"


if __name__ == "__main__":
    end_with(int(sys.argv[2]), int(sys.argv[3]))
    try:
        serve(sys.argv[1])
    except BaseException:  # the function has closed what is not its own: no line can be written, and none is due
        os._exit(1)
    os._exit(0)
