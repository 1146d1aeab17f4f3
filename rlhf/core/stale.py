"""Notice that params.resolved.json is no longer what params.yaml and the profile make.

DVC runs `resolve` first, so this is for a stage that is run by hand, or alone (`dvc repro -s ppo`). A comment, another
order of keys and other line ends change no value and make nothing stale.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf.core.params import by_stage, merge, read_resolved

BRACKETS = 1000  # in params.yaml, or libyaml is not asked: it has no limit on nesting but the stack's
SHOWN = 3  # differences in a message


def differences(resolved: Path, params: Path, profiles: Path) -> list[str]:
    """List the values that `resolve` would write otherwise now, as "ppo.lr is 0.001, and would be 0.0005".

    Takes 20 ms where there are none: the files are read by libyaml and merged, and nothing is validated. Without a
    params.yaml there is nothing to differ from.

    Raises:
        UserError: there is no params.resolved.json, or params.yaml is not valid now (as `rlhf.params.resolve`).
    """
    made = read_resolved(resolved)
    if not params.exists():
        return []
    with contextlib.suppress(Exception):  # whatever is wrong with the files, `resolve` says it in one line
        if not list(_differing(made, by_stage(_merged(params, profiles)))):
            return []
    # By name: this decides whether a stage runs and not what it computes, so that the schemas of all other stages are
    # no dependencies of it.
    now = importlib.import_module("rlhf.params").resolve(params, profiles).stages()
    return [f"{key} is {_shown(old)}, and would be {_shown(new)}" for key, old, new in _differing(made, now)]


def summary(found: list[str]) -> str:
    """Join a few of the differences into a line."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _merged(params: Path, profiles: Path) -> dict[str, Any]:
    own = _read(params)
    return dict(merge(_read(profiles / f"{own['profile']}.yaml"), own))


def _read(path: Path) -> Any:
    from ruamel.yaml import YAML

    text = path.read_text(encoding="utf-8")
    if text.count("[") + text.count("{") > BRACKETS:
        raise ValueError
    return YAML(typ="safe").load(text)


def _differing(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, value in `old`, value in `new`). A 0 that means "off" is null once it is resolved."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differing(old.get(name), new.get(name), f"{key}.{name}" if key else str(name))
    elif (old or None) != (new or None) if _number(old) and _number(new) else old != new:
        yield key, old, new


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
