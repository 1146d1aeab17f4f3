"""The `report` section of the parameters."""

from typing import Annotated

from pydantic import Field

from rlhf.core.params import Section


class ReportParams(Section):
    """How many samples to show, and assumptions on sizes and prices; `params.yaml` explains each key."""

    samples: int = Field(ge=0)
    sizes: list[Annotated[int, Field(gt=0)]]
    labels: list[Annotated[int, Field(gt=0)]]
    currency: str = Field(min_length=1)
    price_gpu_hour: float = Field(ge=0)
    gpu_tflops: float = Field(gt=0)
    gpu_utilisation: float = Field(gt=0, le=1)
    price_per_comparison: float = Field(ge=0)
