"""The `evaluate` section of the parameters."""

from typing import Literal

from pydantic import Field

from rlhf.core.params import Section
from rlhf.evaluate.judge.params import JudgeParams


class TaxParams(Section):
    """What may have been forgotten, and where it is asked for."""

    path: str = Field(min_length=1)
    items: int = Field(ge=0)
    documents: int = Field(ge=0)


class PeopleParams(Section):
    """The sheet for people, and those that they filled in."""

    rows: int = Field(ge=0)
    path: str = Field(min_length=1)


class EvaluateParams(Section):
    """What the policies are asked, and how much of the answers is looked at; `params.yaml` explains each key."""

    split: Literal["validation", "test"]
    prompts: int = Field(ge=1)
    ood_prompts: int = Field(ge=0)
    response_tokens: int = Field(ge=1)
    temperature: float = Field(gt=0, le=10)
    batch_size: int = Field(ge=1)
    batch_tokens: int = Field(ge=1)
    exact_kl_prompts: int = Field(ge=0)
    samples: int = Field(ge=0)
    probes: int = Field(ge=0)
    tax: TaxParams
    people: PeopleParams
    judge: JudgeParams
