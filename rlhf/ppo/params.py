"""The `ppo` section of params.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from rlhf.core.params import Section, Shards

# 0 in the file is None in the code: "off". (A null in params.yaml already means "the profile's value".)
OffFloat = Annotated[float | None, Field(ge=0), AfterValidator(lambda value: value or None)]
OffInt = Annotated[int | None, Field(ge=0), AfterValidator(lambda value: value or None)]


class PPOParams(Section):
    """Parameters of PPO; params.yaml says what each means, its unit and a sensible range."""

    iterations: int = Field(ge=1, le=1_000_000)
    batch: int = Field(ge=1, le=65_536)
    minibatch: int = Field(ge=1, le=65_536)
    microbatch: int = Field(ge=1, le=65_536)
    shards: Shards
    epochs: int = Field(ge=1, le=100)
    response_tokens: int = Field(ge=1, le=32_768)
    max_prompt_tokens: OffInt
    source: Literal["model", "function"]
    function: str
    function_path: str = Field(min_length=1)
    function_timeout_s: float = Field(gt=0)
    temperature: float = Field(gt=0, le=10)
    engine: Literal["fast", "plain"]
    rescore: Literal["auto", "always", "never"]
    sampler: Literal["native", "vllm"]
    sampler_url: str

    lr: float = Field(ge=0, le=1)
    value_lr: float = Field(ge=0, le=1)
    lr_schedule: Literal["linear", "constant"]
    adam_eps: float = Field(gt=0, le=1e-2)
    max_grad_norm: OffFloat

    kl_coef: float = Field(ge=0, le=100)
    kl_controller: Literal["fixed", "adaptive"]
    kl_target: float = Field(gt=0)
    kl_horizon: float = Field(gt=0)
    kl_estimator: Literal["k1", "k2", "k3"]

    gamma: float = Field(ge=0, le=1)
    lam: float = Field(ge=0, le=1)
    clip_ratio: float = Field(gt=0, lt=1)
    value_clip: OffFloat
    value_coef: float = Field(ge=0, le=10)
    value_init: Literal["zero", "reward"]
    value_backprop: bool

    score_clip: OffFloat
    missing_eos: Literal["keep", "replace", "cap"]
    missing_eos_penalty: float = Field(ge=0, le=100)
    whiten_rewards: bool
    whiten_advantages: bool

    approx_kl_stop: OffFloat
    kl_limit: OffFloat
    entropy_floor: OffFloat
    score_jump: OffFloat
    ratio_tolerance: float = Field(gt=0, le=1)
    sampler_tolerance: float = Field(gt=0, le=10)

    fallback: Literal["none", "dpo"]
    fallback_path: str = Field(min_length=1)

    validation_every: OffInt
    validation_by: Literal["reward", "referee"]
    validation_prompts: int = Field(ge=1, le=65_536)
    validation_patience: int = Field(ge=1)
    logged_episodes: int = Field(ge=0)

    @model_validator(mode="after")
    def _what_a_server_samples_is_rescored(self) -> "PPOParams":
        if self.sampler != "native" and self.rescore == "never":
            raise ValueError(
                f"rescore: found never with sampler {self.sampler}, whose logprobs no ratio is taken against; allowed "
                "are auto, always"
            )
        return self

    @model_validator(mode="after")
    def _minibatches_fill_the_batch(self) -> "PPOParams":
        if self.batch % self.minibatch:
            raise ValueError(
                f"minibatch must divide batch: found minibatch {self.minibatch} and batch {self.batch}; "
                f"allowed are {', '.join(map(str, _divisors(self.batch)))}"
            )
        return self

    @model_validator(mode="after")
    def _shards_fill_the_minibatch(self) -> "PPOParams":
        if self.minibatch % self.shards:
            raise ValueError(f"shards must divide minibatch: found shards {self.shards}, minibatch {self.minibatch}")
        return self


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
