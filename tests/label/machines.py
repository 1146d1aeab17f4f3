"""Language models on 127.0.0.1 that label: one that says what a test tells it, and one that is a real model."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.judge_server import Answer, JudgeServer, completion, status

PARTS = re.compile(
    r"\[reply 1 (\w{8})\]\n(.*?)\n\[end of reply 1 \1\]\n\n\[reply 2 \1\]\n(.*?)\n\[end of reply 2 \1\]", re.DOTALL
)
Says = Callable[
    [str, str], "str | float | dict[str, float]"
]  # (reply 1, reply 2) -> a text, P(1), or log-probabilities


def longer(one: str, two: str) -> str:
    return "1" if len(one) > len(two) else "2"


def with_logprobs(text: str, top: dict[str, float]) -> Answer:
    value = json.loads(completion(text).body)
    alternatives = [
        {"token": token, "logprob": logprob, "bytes": list(token.encode())} for token, logprob in top.items()
    ]
    held = {"token": text, "logprob": top.get(text, -1.0), "bytes": None, "top_logprobs": alternatives}
    value["choices"][0]["logprobs"] = {"content": [held], "refusal": None}
    return Answer(body=json.dumps(value).encode())


@dataclass
class Machine(JudgeServer):
    says: Says = longer
    refuses_logprobs: bool = False
    pause_s: float = 0.0

    def answer(self, request: dict[str, Any], authorization: str | None) -> Answer:
        if self.key is not None and authorization != f"Bearer {self.key}":
            return status(401, "wrong key")
        if self.script:
            return self.script.pop(0)
        self._closed.wait(self.pause_s)
        if self.refuses_logprobs and "logprobs" in request:
            return status(400, "this model does not support logprobs")
        found = PARTS.search(request["messages"][-1]["content"])
        assert found is not None, request
        said = self.says(found[2], found[3])
        return completion(said) if isinstance(said, str) else with_logprobs(max(said, key=said.__getitem__), said)  # type: ignore[union-attr,arg-type]


class ModelServer(JudgeServer):
    """A causal model of transformers behind the protocol, with the log-probabilities that it really has."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model, self.tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    @staticmethod
    def written(messages: list[dict[str, str]]) -> str:
        return "\n\n".join(message["content"] for message in messages)

    def answer(self, request: dict[str, Any], authorization: str | None) -> Answer:
        import torch

        ids = self.tokenizer(self.written(request["messages"]), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logs = self.model(ids).logits[0, -1].log_softmax(-1)
        top = logs.topk(request["top_logprobs"])
        names = {
            self.tokenizer.decode([token]): value
            for token, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        }
        return with_logprobs(self.tokenizer.decode([int(logs.argmax())]), names)
