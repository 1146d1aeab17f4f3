"""Parameters of a language model as judge."""

from pydantic import Field, field_validator

from rlhf.core.params import Section


class JudgeParams(Section):
    """Which model is asked, where, and how much of it. The key itself is never a parameter."""

    endpoint: str  # base address of an OpenAI-compatible API, as http://127.0.0.1:8000/v1
    model: str = Field(min_length=1)
    key_env: str  # name of the environment variable that holds the key; empty where the endpoint asks for none
    temperature: float = Field(ge=0, le=2)
    max_tokens: int = Field(ge=1)  # of an answer
    timeout_s: float = Field(gt=0)  # seconds without an answer after which a request is given up
    attempts: int = Field(ge=1, le=20)  # of each request, the first included
    requests_per_minute: float = Field(ge=0)  # 0 = no limit of our own
    budget_requests: int = Field(ge=1)  # of one run; what is in the cache costs nothing
    budget_tokens: int = Field(ge=1)  # of one run, prompts and answers, as the endpoint counts them

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must be the address of an OpenAI-compatible API, as http://127.0.0.1:8000/v1")
        return value.rstrip("/")
