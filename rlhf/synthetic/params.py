"""Parameters of `data.synthetic`: size, noise and planted biases of the synthetic task."""

from pydantic import Field

from rlhf.core.params import Section


class BiasParams(Section):
    """The annotators' preferences beyond the truth, in logits; all zero is an honest annotator."""

    length_per_10_words: float = Field(ge=-10, le=10)
    flattery: float = Field(ge=-10, le=10)
    keyword: str = Field(min_length=1, pattern=r"^\w+$")
    keyword_logit: float = Field(ge=-10, le=10)


class SyntheticParams(Section):
    """Size and noise of the task; `params.yaml` says what each means."""

    prompts: int = Field(ge=10, le=20_000)
    pairs_per_prompt: int = Field(ge=1, le=20)
    two_turn_share: float = Field(ge=0, le=1)
    annotator_temperature: float = Field(gt=0, le=100)
    biases: BiasParams
    ood_prompts: int = Field(ge=0, le=2000)
    corpus_documents: int = Field(ge=100, le=1_000_000)
