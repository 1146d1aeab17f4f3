"""Parameters of a language model as judge."""

from pydantic import Field, model_validator

from rlhf.core.params import Section


class JudgeParams(Section):
    """Which model is asked, where, and how much of it. The key itself is never a parameter."""

    prompts: int = Field(ge=0)  # so many are put to the judge; 0 = there is none
    endpoint: str  # base address of an OpenAI-compatible API, as http://127.0.0.1:8000/v1
    model: str
    key_env: str  # name of the environment variable that holds the key; empty where the endpoint asks for none
    temperature: float = Field(ge=0, le=2)
    max_tokens: int = Field(ge=1)  # of an answer
    timeout_s: float = Field(gt=0)  # seconds without an answer after which a request is given up
    attempts: int = Field(ge=1, le=20)  # of each request, the first included
    requests_per_minute: float = Field(ge=0)  # 0 = no limit of our own
    budget_requests: int = Field(ge=1)  # of one run; what is in the cache costs nothing
    budget_tokens: int = Field(ge=1)  # of one run, prompts and answers, as the endpoint counts them

    @model_validator(mode="after")
    def _says_whom_to_ask(self) -> "JudgeParams":
        if self.prompts and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(
                "endpoint must be the address of an OpenAI-compatible API, as http://127.0.0.1:8000/v1, where prompts "
                f"is above 0 (found {self.endpoint!r})"
            )
        if self.prompts and not self.model:
            raise ValueError("model must name a model of the endpoint where prompts is above 0 (found '')")
        return self
