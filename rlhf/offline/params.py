"""The `offline` section of params.yaml: what all alternatives to PPO share, and a section for each."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from rlhf.core.params import Section, TrainingSection


class SharedParams(TrainingSection):
    """How all methods sample and train, except for what each sets itself."""

    engine: Literal["fast", "plain"]
    response_tokens: int = Field(ge=1, le=32_768)
    temperature: float = Field(gt=0, le=10)
    sample_batch: int = Field(ge=1)
    batch_tokens: int = Field(ge=1)
    max_examples: int = Field(ge=0)
    eval_examples: int = Field(ge=1)
    group_by_length: bool
    accumulate: int = Field(ge=1)


class Switched(Section):
    """A method that runs only where it is asked for."""

    run: bool


class TrainedParams(Switched):
    """A method that trains an adapter."""

    lr: float = Field(gt=0, le=1)
    epochs: int = Field(ge=1)


class PreferenceParams(TrainedParams):
    """DPO and IPO: trained on the preference pairs alone."""

    beta: float = Field(gt=0, le=100)


class RejectionParams(TrainedParams):
    """Supervised fine-tuning on the best of n samples."""

    n: int = Field(ge=2, le=1024)


class RRHFParams(RejectionParams):
    """RRHF: n samples ranked by their reward."""

    sft_coef: float = Field(ge=0, le=100)


class BestOfNParams(Switched):
    """Best of n at several n: a way to sample, nothing is trained."""

    n: list[int] = Field(min_length=1)

    @field_validator("n")
    @classmethod
    def _rising(cls, value: list[int]) -> list[int]:
        if value != sorted(set(value)) or value[0] < 1 or value[-1] > 1024:
            raise ValueError("rising whole numbers from 1 to 1024 are allowed, each once")
        return value


class OfflineParams(Section):
    """The whole section."""

    shared: SharedParams
    dpo: PreferenceParams
    ipo: PreferenceParams
    rrhf: RRHFParams
    rejection: RejectionParams
    best_of_n: BestOfNParams


SECTIONS: Mapping[str, type[Switched]] = {
    "dpo": PreferenceParams,
    "ipo": PreferenceParams,
    "rrhf": RRHFParams,
    "rejection": RejectionParams,
    "best_of_n": BestOfNParams,
}
