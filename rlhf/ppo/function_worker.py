"""A reward function in a process of its own, so that one that hangs, crashes or prints does no harm to training.

    python -m rlhf.ppo.function_worker module:function

One JSON object a line. It says {"ready": true} or {"error": ...} once, then answers each {"prompts": [...],
"responses": [...]} with {"scores": [...]} or {"error": ...}. What the function prints goes to stderr.
"""

import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Function = Callable[[list[str], list[str]], Any]


class Unusable(Exception):  # noqa: N818 - what the function is
    """A reward function, or what it returned, is not what it should be; one line."""


def load(spec: str) -> Function:
    """The function that `module:function` names. Raises Unusable: what is wrong, in one line."""
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise Unusable(f"expected module:function, found {spec!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise Unusable(f"no module {error.name!r} in {Path.cwd()} or among the installed ones") from None
        raise Unusable(f"importing {module_name} raised {_raised(error)}") from None
    except Exception as error:
        raise Unusable(f"importing {module_name} raised {_raised(error)}") from None
    function = getattr(module, name, None)
    if not callable(function):
        found = "nothing" if function is None else type(function).__name__
        raise Unusable(f"{module_name} has no function {name!r}; found {found}")
    known: Function = function
    return known


def scores(function: Function, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """What the function says, as one finite number a response. Raises Unusable: what is wrong, in one line."""
    try:
        said = function(list(prompts), list(responses))
        said = said.tolist() if hasattr(said, "tolist") else said  # tensors and arrays
    except Exception as error:
        raise Unusable(f"raised {_raised(error)}") from None
    if not isinstance(said, list | tuple):
        raise Unusable(f"returned {type(said).__name__} {said!r:.60}; expected a list of {len(responses)} numbers")
    if len(said) != len(responses):
        raise Unusable(f"returned {len(said)} scores for {len(responses)} responses")
    found = []
    for index, item in enumerate(said):
        try:
            number = float(item) if not isinstance(item, str) else None
        except (TypeError, ValueError, RuntimeError):
            number = None
        if number is None:
            raise Unusable(f"score {index} is {type(item).__name__} {item!r:.60}; expected a number")
        if not math.isfinite(number):
            raise Unusable(f"score {index} is {number}, for the response {responses[index]!r:.60}")
        found.append(number)
    return found


def serve(spec: str) -> None:
    """Answer until stdin ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**said: object) -> None:
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
            say(scores=scores(function, request["prompts"], request["responses"]))
        except Unusable as error:
            say(error=str(error))


def _raised(error: BaseException) -> str:
    """Type, first line and where of an exception; the where is the innermost in the function's own files."""
    told = " ".join(str(error).split())[:160]
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if len(own) > 1 else ""
    return f"{type(error).__name__}{': ' if told else ''}{told}{where}"


if __name__ == "__main__":
    serve(sys.argv[1])
