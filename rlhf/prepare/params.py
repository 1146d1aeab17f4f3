"""Parameters of the prepare stage: where preferences come from, what is kept of them, and how they are split."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from rlhf.core.params import Section
from rlhf.synthetic.params import SyntheticParams

TemplateName = Literal["dialogue", "chat", "raw"]
OnTurnMarker = Literal["skip", "cut", "stop"]
DIALOGUE = "\n\nHuman: {prompt}\n\nAssistant:"  # data.prompt_template, where it is not changed
AS_IT_IS = "{prompt}"
COMMIT = re.compile(r"[0-9a-f]{40}")


Name = Annotated[str, Field(min_length=1)]


class ColumnParams(Section):
    """Names of the columns of a file, where they are not the usual ones; a dotted name leads into nested values."""

    prompt: Name | None
    extra: Name | None
    system: Name | None
    chosen: Name | None
    rejected: Name | None
    reply: Name | None
    label: Name | None
    first: Name | None
    second: Name | None
    winner: Name | None
    replies: Name | None
    ranks: Name | None
    score: Name | None
    weight: Name | None
    margin: Name | None
    annotator: Name | None


class HubParams(Section):
    """A dataset on a hub, pinned."""

    repo: str | None
    revision: str | None
    data_dir: str | None
    split: str = Field(min_length=1)


LabelKind = Literal["people", "model", "constitution", "simulated"]


class LabelParams(Section):
    """Answers of annotators to the project's own questions, which are read beside the source."""

    use: bool
    path: str = Field(min_length=1)
    round: int = Field(ge=0, le=1000)
    kinds: list[LabelKind] = Field(min_length=1)

    @field_validator("kinds")
    @classmethod
    def _each_once(cls, value: list[LabelKind]) -> list[LabelKind]:
        if len(set(value)) < len(value):
            raise ValueError("each kind of annotator once")
        return value


class DataParams(Section):
    """The `data` section; `params.yaml` says what each key means."""

    source: Literal["synthetic", "files", "hub"]
    path: str = Field(min_length=1)
    format: Literal["auto", "hh", "pairs", "messages", "conversations", "unpaired", "winner", "ratings", "rankings"]
    columns: ColumnParams
    labels: LabelParams
    template: TemplateName
    prompt_template: str
    on_turn_marker: OnTurnMarker
    hub: HubParams
    on_bad_row: Literal["stop", "skip"]
    min_tokens: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    max_pairs: int = Field(ge=0)
    validation_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)
    vocabulary: int = Field(ge=258, le=1_000_000)
    synthetic: SyntheticParams

    @model_validator(mode="after")
    def _template_has_its_gap(self) -> "DataParams":
        gaps = re.findall(r"\{(\w*)\}", self.prompt_template)
        if gaps != ["prompt"]:
            raise ValueError(
                f"data.prompt_template must hold {{prompt}} once and no other gap (found {self.prompt_template!r})"
            )
        if re.search(r"\{\{prompt|prompt\}\}", self.prompt_template):
            raise ValueError(
                f"data.prompt_template: a gap is {{prompt}}, in one pair of braces (found {self.prompt_template!r})"
            )
        return self

    @model_validator(mode="after")
    def _both_replies_of_a_winner(self) -> "DataParams":
        if (self.columns.first is None) != (self.columns.second is None):
            raise ValueError(
                f"data.columns.first and data.columns.second go together (found {self.columns.first!r} and "
                f"{self.columns.second!r})"
            )
        return self

    @model_validator(mode="after")
    def _template_is_used(self) -> "DataParams":
        own = self.prompt_template not in (DIALOGUE, AS_IT_IS)
        if self.template != "dialogue" and own:
            raise ValueError(
                f"data.template is {self.template!r}, which leaves no use for data.prompt_template (found "
                f"{self.prompt_template!r}); set data.template to dialogue, or take data.prompt_template out"
            )
        if self.source == "synthetic" and self.template != "dialogue":
            raise ValueError(
                f"data.source is 'synthetic', whose texts are made as dialogues, so data.template must be dialogue "
                f"(found {self.template!r})"
            )
        return self

    @model_validator(mode="after")
    def _hub_is_pinned(self) -> "DataParams":
        if self.source != "hub":
            return self
        if not self.hub.repo:
            raise ValueError("data.source is 'hub', so data.hub.repo must name a dataset (found null)")
        if not COMMIT.fullmatch(self.hub.revision or ""):
            raise ValueError(
                "data.hub.revision must be a commit of 40 hex digits, because a branch or tag can move and the same "
                f"parameters would then give other data (found {self.hub.revision!r})"
            )
        return self
