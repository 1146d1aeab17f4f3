"""Parameters of supervised fine-tuning."""

from typing import Literal

from pydantic import Field

from rlhf.core.params import Section, TrainingSection


class LoraParams(Section):
    """Low-rank adapters over a frozen base (Hu et al. 2021): W x + (alpha / rank) B A x."""

    rank: int = Field(ge=1, le=1024)
    alpha: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    targets: Literal["auto"] | list[str]


class SFTParams(TrainingSection):
    """Supervised fine-tuning on the chosen responses, or on both of each pair."""

    lora: LoraParams
    replies: Literal["chosen", "both"]
    epochs: int = Field(ge=1)
    max_examples: int = Field(ge=0)
    accumulate: int = Field(ge=1)
    lr: float = Field(gt=0, le=1)
    group_by_length: bool
    eval_examples: int = Field(ge=1)
    samples: int = Field(ge=0)
    sample_tokens: int = Field(ge=1)
    sample_temperature: float = Field(gt=0, le=10)
