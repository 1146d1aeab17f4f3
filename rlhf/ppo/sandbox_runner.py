"""Runs inside the sandbox: read a request on stdin, run its code, say what each call returned.

Its text is handed to an interpreter that sees nothing of this project. Expected values never come in, and what the code
prints goes nowhere, so all that code can do to seem right is to return what is right.

It writes JSON lines: {"ready": true}, then {"compiled": true}, then {"call": index, "value": ...} for each call that
returned something that JSON has.
"""

import json
import os
import resource
import sys


def main() -> None:
    """Answer one request. The limits, names and values of `resource`, are the first argument."""
    for name, value in json.loads(sys.argv[1]).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)

    def say(**said: object) -> None:
        line = json.dumps(said, allow_nan=False)
        out.write(line + "\n")
        out.flush()

    say(ready=True)
    code = compile(request["code"], "answer.py", "exec")
    say(compiled=True)
    names: dict[str, object] = {"__name__": "answer"}
    exec(code, names)  # noqa: S102 - what this is for
    for index, arguments in enumerate(request["calls"]):
        try:
            say(call=index, value=names[request["function"]](*arguments))  # type: ignore[operator]
        except BaseException:  # noqa: S112 - the answer's own fault: its call stays FAILED
            continue
    os._exit(0)  # what the code left for the end has no say


if __name__ == "__main__":
    main()
