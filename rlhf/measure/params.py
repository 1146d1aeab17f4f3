"""Parameters of measuring: the part of the section `evaluate` that `evaluate` and `compare` share."""

from typing import Literal

from pydantic import Field

from rlhf.core.params import Section


class TaxParams(Section):
    """Benchmarks and documents that show what a policy has forgotten."""

    path: str = Field(min_length=1)
    items: int = Field(ge=0)
    documents: int = Field(ge=0)


class RefereeParams(Section):
    """A function that judges in the place of the second reward model."""

    function: str = Field(pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")  # empty = the second reward model
    function_path: str = Field(min_length=1)
    function_timeout_s: float = Field(gt=0)


class MeasureParams(Section):
    """How policies are sampled and scored; `params.yaml` explains each key."""

    split: Literal["validation", "test"]
    prompts: int = Field(ge=1)
    response_tokens: int = Field(ge=1)
    temperature: float = Field(gt=0, le=10)
    batch_size: int = Field(ge=1)
    batch_tokens: int = Field(ge=1)
    exact_kl_prompts: int = Field(ge=0)
    samples: int = Field(ge=0)
    tax: TaxParams
