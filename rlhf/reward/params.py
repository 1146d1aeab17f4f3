"""The `reward` section of the parameters."""

from typing import Literal

from pydantic import Field, model_validator

from rlhf.core.params import Section, TrainingSection


class TuneParams(TrainingSection):
    """Training of the backbone with the head."""

    epochs: int = Field(ge=1, le=1000)
    lr: float = Field(gt=0, le=1)
    dropout: float = Field(ge=0, lt=1)


class LearnedParams(Section):
    """How much `artifacts/reward_learned.json` lists."""

    min_count: int = Field(ge=2)
    words: int = Field(ge=1, le=1000)
    examples: int = Field(ge=1, le=1000)


class RewardParams(Section):
    """A reward head on a backbone, frozen or trained; `params.yaml` says what each key means."""

    train: Literal["head", "lora"]
    engine: Literal["fast", "plain"]
    tune: TuneParams
    pooling: Literal["mean", "last", "attention"]
    pool_over: Literal["sequence", "response"]
    logprobs: bool
    head_units: int = Field(ge=0, le=4096)
    length_correction: Literal["none", "sqrt", "regression"]
    referee_share: float = Field(ge=0, le=0.5)
    members: int = Field(ge=1, le=64)
    aggregate: Literal["mean", "worst", "uncertainty"]
    uncertainty_weight: float = Field(ge=0, le=100)
    standardise: bool
    lr: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=10)
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    patience: int = Field(ge=0)
    batch_tokens: int = Field(ge=1)
    normalise_prompts: int = Field(ge=2)
    response_tokens: int = Field(ge=1)
    temperature: float = Field(gt=0, le=10)
    sample_batch: int = Field(ge=1)
    calibration_bins: int = Field(ge=1, le=100)
    learned: LearnedParams

    @model_validator(mode="after")
    def _what_goes_together(self) -> "RewardParams":
        if self.pooling == "attention" and self.train == "head":
            raise ValueError(
                "pooling: found 'attention' with train: head, which fits the head on features pooled once; "
                "allowed: mean or last, or train: lora"
            )
        if self.members > 1 and self.train == "lora":
            raise ValueError(
                f"members: found {self.members} with train: lora, which trains one backbone; allowed: 1, or train: head"
            )
        return self
