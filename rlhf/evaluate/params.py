"""The `evaluate` section of the parameters."""

from pydantic import Field

from rlhf.core.params import Section
from rlhf.judge.params import JudgeParams
from rlhf.measure.params import MeasureParams


class PeopleParams(Section):
    """The sheet that is written for people, and the place of filled-in ones."""

    rows: int = Field(ge=0)
    path: str = Field(min_length=1)


class EvaluateParams(MeasureParams):
    """The prompts that policies are asked, and how much is shown of the responses; `params.yaml` explains each key."""

    ood_prompts: int = Field(ge=0)
    probes: int = Field(ge=0)
    people: PeopleParams
    judge: JudgeParams
