"""Show progress bars with rate and time left: on a terminal a live line, in a log a line now and then."""

import sys
from typing import NoReturn

from tqdm import tqdm


def track(total: int, desc: str, *, initial: int = 0, unit: str = "step") -> "tqdm[NoReturn]":
    """Make a bar on stderr over `total` steps. Call `.update()` a step; `.set_postfix_str()` shows the latest
    numbers."""
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=desc,
        initial=initial,
        unit=unit,
        dynamic_ncols=interactive,
        ascii=not interactive,
        mininterval=0.2 if interactive else 15.0,
        maxinterval=10.0 if interactive else 60.0,
        file=sys.stderr,
    )


def say_resumed(stream: str, unit: str, done: int, total: int) -> None:
    """Say on stderr, in one line, that a run resumes and from where."""
    sys.stderr.write(f"{stream}: resuming after {unit} {done} of {total}\n")
