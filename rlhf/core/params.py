"""Typed, strict sections of the parameters file, checked once and then trusted.

Code holds no defaults: `params.yaml` and `profiles/*.yaml` hold every value. Each package declares its own section in
its own `params.py`, so that a change to one stage's schema re-runs only that stage; `rlhf.params` composes them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from rlhf.core.artifacts import read_json, write_text
from rlhf.core.errors import UserError


class Section(BaseModel):
    """A part of the parameters. Unknown keys, coercions, NaN and mutation are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        raise ValueError("it must be a power of two, as 1, 2, 4, 8")
    return number


Shards = Annotated[int, Field(ge=1, le=1024), AfterValidator(_power_of_two)]  # parts that work is cut into


class TrainingSection(Section):
    """What every section holds whose stage trains with `rlhf.training.trainer.fit`."""

    batch_size: int = Field(ge=1)
    shards: Shards
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0, le=1)
    grad_clip: float = Field(gt=0)
    eval_every: int = Field(ge=1)
    log_every: int = Field(ge=1)

    @model_validator(mode="after")
    def _shards_divide_the_batch(self) -> Self:
        if self.batch_size % self.shards:
            raise ValueError(f"shards must divide batch_size: found shards {self.shards}, batch_size {self.batch_size}")
        return self


S = TypeVar("S", bound=BaseModel)


def check(cls: type[S], value: object, *, where: str, key: str = "") -> S:
    """Validate `value` as `cls`.

    Raises:
        UserError: one line for each problem: `where`, the dotted key, what was found and what is allowed.
    """
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        problems = _joined(error.errors(include_url=False), cls)
        raise UserError("\n".join(_line(problem, where, key, cls) for problem in problems)) from None


def read_section(path: Path, name: str, cls: type[S]) -> S:
    """Read one section of the resolved parameters (JSON written by the `resolve` stage); "a.b" is section b of a.

    Raises:
        UserError: the file or the section is missing, or the section is not valid.
    """
    resolved = read_resolved(path)
    section = dug(resolved, name)
    if section is None:
        raise UserError(f"{path}: no section {name!r}; found {', '.join(sorted(resolved))}")
    return check(cls, section, where=str(path), key=name)


def dug(values: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted key, or None."""
    value: Any = values
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def merge(profile: Any, own: Any) -> Any:
    """Lay `own` over `profile`, mapping by mapping; null in `own` gives way."""
    if isinstance(own, Mapping):
        under = profile if isinstance(profile, Mapping) else {}
        return {key: merge(under.get(key), value) for key, value in own.items()}
    return profile if own is None else own


def by_stage(values: dict[str, Any]) -> dict[str, Any]:
    """Move what belongs to a section for a reader, and to another for the stages: a change of `evaluate.fail_on`, which
    `diagnose` reads, must not measure everything anew."""
    values["diagnose"]["fail_on"] = values["evaluate"].pop("fail_on")
    return values


def read_resolved(path: Path) -> dict[str, Any]:
    """The resolved parameters as plain data. Raises UserError if they were never resolved."""
    if not path.exists():
        raise UserError(f"{path}: not found; `python -m stages.resolve` (or `dvc repro`) writes it from params.yaml")
    resolved = read_json(path)
    if not isinstance(resolved, dict):
        raise UserError(f"{path}: expected a mapping of sections, found {type(resolved).__name__}")
    return resolved


def write_resolved(path: Path, sections: Mapping[str, Any]) -> None:
    """Write params.resolved.json: every number with all its digits, so that what is read is what was checked."""
    write_text(path, json.dumps(sections, indent=2) + "\n")


def _joined(problems: Sequence[ErrorDetails], cls: type[BaseModel]) -> list[dict[str, Any]]:
    """Make one problem of those of a value that may be of several kinds ("auto" or a count).

    Pydantic reports each kind apart, under a name of its own schema. Where the value is of one kind but for a part of
    it, only that part is told.
    """
    found: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for problem in problems:
        found.setdefault(_without_kinds(problem["loc"], cls), []).append(problem)
    within = {loc[:depth] for loc in found for depth in range(len(loc))}
    return [{**same[0], "loc": loc, "msg": _either(same)} for loc, same in found.items() if loc not in within]


def _without_kinds(loc: tuple[int | str, ...], cls: type[BaseModel]) -> tuple[int | str, ...]:
    """Take out of a problem's place the names by which pydantic tells the kinds of one value apart."""
    annotation: Any = cls
    kept: list[int | str] = []
    for part in loc:
        if get_origin(annotation) in (Union, UnionType):
            kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
            if len(kinds) > 1:  # this part names the kind; what lies below it is not followed
                annotation = None
                continue
            annotation = kinds[0]
        kept.append(part)
        field = annotation.model_fields.get(str(part)) if _is_section(annotation) else None
        annotation = field.annotation if field else next(iter(get_args(annotation)[-1:]), None)
    return tuple(kept)


def _either(same: Sequence[ErrorDetails]) -> str:
    """Say what each kind asks for, in one sentence."""
    first, *others = (str(problem["msg"]) for problem in same)
    return " or ".join([first, *(message.removeprefix("Input should be ") for message in others)])


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _line(problem: Mapping[str, Any], where: str, key: str, cls: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in (key, *problem["loc"]) if str(part))
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_siblings(cls, problem["loc"][:-1]))
        return f"{where}: {location}: unknown key; known here: {known}"
    found = problem["input"]
    if problem["type"] == "missing":
        return f"{where}: {location}: missing; every key needs a value (null takes the profile's)"
    message = str(problem["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(found, dict) else f" (found {found!r})"
    return f"{where}: {location}: {message}{shown}"


def _siblings(cls: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys allowed where an unknown one was found, following nested sections down `path`."""
    for part in path:
        field = cls.model_fields.get(str(part))
        if field is None or not _is_section(field.annotation):
            break
        cls = field.annotation
    return sorted(cls.model_fields)
