"""Read YAML 1.2, in which 1e-5 is a number (PyYAML reads YAML 1.1, where it is a string)."""

from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML 1.2 file as plain Python data.

    Raises:
        UserError: no such file, not YAML (with the line), a duplicate key, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Read a mapping from YAML 1.2; `where` names it in errors, which are those of `read_yaml`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        value = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{where}:{line}: not YAML: {error.problem}") from None
    except RecursionError:
        raise UserError(f"{where}: not YAML that can be read: nested too deeply") from None
    except (YAMLError, ValueError, OverflowError) as error:  # a NUL; a number of thousands of digits, a 13th month
        raise UserError(f"{where}: not YAML that can be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping, found {type(value).__name__}")
    return value
