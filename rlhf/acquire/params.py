"""The `acquire` section of the parameters."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from rlhf.core.params import Section

StrategyName = Literal["random", "margin", "ensemble", "d_optimal"]


class AcquireParams(Section):
    """Which pairs of replies to ask annotators about; `params.yaml` says what each key means."""

    run: bool
    strategy: StrategyName
    pairs: int = Field(ge=1)
    prompts: int = Field(ge=0)
    policies: list[Literal["sft", "ppo"]] = Field(min_length=1)
    temperatures: list[Annotated[float, Field(gt=0, le=10)]] = Field(min_length=1)
    samples: int = Field(ge=1, le=64)
    per_prompt: int = Field(ge=0)
    ridge: float = Field(gt=0)

    @field_validator("policies", "temperatures")
    @classmethod
    def _each_once(cls, value: list[object]) -> list[object]:
        if len(set(value)) < len(value):
            raise ValueError("each once")
        return value

    @model_validator(mode="after")
    def _two_replies(self) -> "AcquireParams":
        replies = len(self.policies) * len(self.temperatures) * self.samples
        if replies < 2:
            raise ValueError("one policy, one temperature and samples: 1 make one reply to a prompt; a pair needs two")
        return self
