"""A server on 127.0.0.1 that speaks the part of vLLM's protocol that PPO uses, over plain transformers and peft.

Answers have the fields and the refusals that vLLM 0.32 was seen to give. It samples token by token, each request with a
generator of its own, and misbehaves as it is told.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


class Refused(Exception):  # noqa: N818 - what the protocol calls an error
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class VllmServer:
    """`faults`: what it does wrong, of those named below. `log` is every order it was given."""

    def __init__(self, base: Path, *, merged: bool = False) -> None:
        self.base, self.merged = base, merged
        self.faults: set[str] = set()
        self.log: list[str] = []
        self.context = 128
        self.root = str(base)
        self._plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self._adapters: dict[str, Any] = {}
        self._lock = threading.Lock()  # one model, and requests from many threads
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def loaded(self) -> list[str]:
        return sorted(self._adapters)

    def _answer(self, path: str, body: dict[str, Any]) -> object:  # noqa: PLR0911 - one for each path
        if path == "/version":
            return {"version": "0.32.0"}
        if path == "/openapi.json":
            ways = ["/collective_rpc"] if self.merged else ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"]
            ways = [] if "takes no weights" in self.faults else ways
            return {"paths": {way: {} for way in ["/v1/completions", *ways]}}
        if path == "/v1/models":
            own = {"id": "base", "root": self.root, "parent": None, "max_model_len": self.context}
            return {"data": [own, *({"id": name, "root": name, "parent": "base"} for name in self._adapters)]}
        if path == "/v1/load_lora_adapter":
            return self._load(body["lora_name"], Path(body["lora_path"]))
        if path == "/v1/unload_lora_adapter":
            self.log.append(f"unload {body['lora_name']}")
            if self._adapters.pop(body["lora_name"], None) is None:
                raise Refused(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
            return "Success"
        if path == "/collective_rpc":
            return self._reload(body)
        if path == "/v1/completions":
            return self._complete(body)
        raise Refused(404, path)

    def _load(self, name: str, folder: Path) -> str:
        self.log.append(f"load {name}")
        if name in self._adapters:
            raise Refused(400, f"The lora adapter '{name}' has already been loaded.")
        if not (folder / "adapter_config.json").is_file() or "refuses to load" in self.faults:
            raise Refused(404, f"Loading lora {name} failed: No adapter found for <path>")
        first = next(iter(self._adapters.values()), None)
        if "serves the first adapter" in self.faults and first is not None:
            self._adapters[name] = first
        elif "serves the base" in self.faults:
            self._adapters[name] = self._plain
        else:
            fresh = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
            self._adapters[name] = PeftModel.from_pretrained(fresh, str(folder)).eval()
        return "Success"

    def _reload(self, body: dict[str, Any]) -> object:
        assert body["method"] == "reload_weights"
        self.log.append("reload")
        folder = Path(body["kwargs"]["weights_path"])
        kinds = {weight.dtype for weight in AutoModelForCausalLM.from_pretrained(folder, dtype="auto").parameters()}
        self.log += sorted(map(str, kinds))
        if "keeps its weights" not in self.faults or self.log.count("reload") == 1:
            self._plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return {"results": [None]}

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        name, prompt = body["model"], list(body["prompt"])
        model = self._plain if name == "base" else self._adapters.get(name)
        if model is None:
            raise Refused(404, f"The model `{name}` does not exist.")
        assert body["ignore_eos"]
        assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, 0, 0.0, 1.0)
        with self._lock:
            ids, logprobs, ended = sampled(model, prompt, body, raw="raw logprobs" in self.faults)
        found = {
            "index": 0, "text": "", "finish_reason": "stop" if ended else "length",
            "token_ids": ids, "prompt_token_ids": prompt,
            "logprobs": {"tokens": [f"token_id:{token}" for token in ids], "token_logprobs": logprobs},
        }  # fmt: skip
        answer = {"id": "cmpl-1", "object": "text_completion", "model": name, "choices": [found]}
        self._spoil(found, answer, body)
        return answer

    def _spoil(self, choice: dict[str, Any], answer: dict[str, Any], body: dict[str, Any]) -> None:
        given = choice["logprobs"]
        if "another model" in self.faults:
            answer["model"] = "base"
        if "cut prompt" in self.faults:
            choice["prompt_token_ids"] = choice["prompt_token_ids"][1:]
        if "no ids" in self.faults:
            choice["token_ids"] = None
        if "other tokens" in self.faults:
            given["tokens"] = [*given["tokens"][:-1], "token_id:3333"]
        if "nan" in self.faults:
            given["token_logprobs"] = [float("nan"), *given["token_logprobs"][1:]]
        if "no choices" in self.faults:
            answer["choices"] = []
        if "outside" in self.faults:
            choice["token_ids"] = [99_999, *choice["token_ids"][1:]]
        if "short" in self.faults:
            keep = [token for token in choice["token_ids"] if token not in body["stop_token_ids"]][:1] or [5]
            choice["token_ids"] = keep
            given["tokens"], given["token_logprobs"] = [f"token_id:{keep[0]}"], [-1.0]
        if "goes on" in self.faults:
            choice["token_ids"] = [body["stop_token_ids"][0], 5]
            given["tokens"] = [f"token_id:{token}" for token in choice["token_ids"]]
            given["token_logprobs"] = [-1.0, -1.0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    code, found = 200, server._answer(self.path, json.loads(data or b"{}"))
                except Refused as error:
                    code, found = error.code, {"error": {"message": str(error), "code": error.code}}
                content = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                if "no json" in server.faults:
                    content = b"<html>"
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _serve  # noqa: N815 - the library's names

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        return Handler


@torch.no_grad()
def sampled(model: Any, prompt: list[int], body: dict[str, Any], *, raw: bool) -> tuple[list[int], list[float], bool]:
    """Sample as vLLM does, without a cache: softmax of logits over temperature, one token after the other."""
    generator = torch.Generator().manual_seed(body["seed"])
    ids, logprobs = list[int](), list[float]()
    while len(ids) < body["max_tokens"]:
        logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, -1].double()
        tempered = (logits / body["temperature"]).log_softmax(-1)
        token = int(torch.multinomial(tempered.exp(), 1, generator=generator))
        ids.append(token)
        logprobs.append(float((logits.log_softmax(-1) if raw else tempered)[token]))
        if token in body["stop_token_ids"]:
            return ids, logprobs, True
    return ids, logprobs, False
