"""Parameters of the base stage: where the base model comes from, and how one is pretrained."""

import re
from typing import Literal

from pydantic import Field, model_validator

from rlhf.core.params import Section, TrainingSection

COMMIT = re.compile(r"[0-9a-f]{40}")


class PretrainParams(TrainingSection):
    """A GPT-2 architecture trained from scratch on the prepared corpus."""

    layers: int = Field(ge=1, le=96)
    heads: int = Field(ge=1, le=128)
    width: int = Field(ge=2, le=16384)
    context: int = Field(ge=8, le=131072)
    init_range: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    lr: float = Field(gt=0, le=1)
    validation_share: float = Field(gt=0, lt=0.5)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "PretrainParams":
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads (found width {self.width}, heads {self.heads})")
        return self


class BaseParams(Section):
    """Where the base model comes from. Only the keys of the chosen source are used."""

    source: Literal["pretrain", "path", "hub"]
    path: str | None
    repo: str | None
    revision: str | None
    pretrain: PretrainParams

    @model_validator(mode="after")
    def _source_is_complete(self) -> "BaseParams":
        if self.source == "path" and not self.path:
            raise ValueError("base.source is 'path', so base.path must name a folder (found null)")
        if self.source == "hub" and not self.repo:
            raise ValueError("base.source is 'hub', so base.repo must name a repository (found null)")
        if self.source == "hub" and not COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                "base.revision must be a commit of 40 hex digits, because a branch or tag can move and the same "
                f"parameters would then give another model (found {self.revision!r})"
            )
        return self
