"""Parameters of measuring: the part of the section `evaluate` that `evaluate` and `compare` share."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, model_validator

from rlhf.core.params import Section

SFT_BACKBONE: Final = "artifacts/sft"  # referee.backbone of a referee that reads what the reward model reads


class TaxParams(Section):
    """Benchmarks and documents that show what a policy has forgotten."""

    path: str = Field(min_length=1)
    items: int = Field(ge=0)
    documents: int = Field(ge=0)


class RefereeParams(Section):
    """What the second reward model stands on, or a function that judges in its place."""

    backbone: str = Field(min_length=1)  # SFT_BACKBONE, or the folder of a sentence encoder
    function: str = Field(pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")  # empty = the second reward model
    function_path: str = Field(min_length=1)
    function_timeout_s: float = Field(gt=0)

    @property
    def encoder(self) -> Path | None:
        """Return the folder of the sentence encoder; None where the referee reads the SFT backbone."""
        return None if Path(self.backbone) == Path(SFT_BACKBONE) else Path(self.backbone)

    @model_validator(mode="after")
    def _one_referee(self) -> "RefereeParams":
        if self.encoder is None:
            return self
        if self.encoder.parts[:1] == Path(SFT_BACKBONE).parts[:1]:
            raise ValueError(
                f"referee.backbone: found {self.backbone!r}, which a stage makes; allowed: {SFT_BACKBONE}, or the "
                "folder of a sentence encoder"
            )
        if self.function:
            raise ValueError(
                f"referee.backbone: found {self.backbone!r} beside referee.function {self.function!r}, and one referee "
                f"judges; allowed: an empty function, or the backbone {SFT_BACKBONE}"
            )
        return self


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
