"""Sample by a vLLM server in an environment of its own on this machine (`make vllm`).

Each set of weights is published under a new name and in a new folder, and the one before is unloaded: a server that
loads over a name it knows may serve what it has cached of the old weights. Where vLLM has no LoRA for an architecture
(GPT-2, GPT-NeoX) the adapter is merged, in float32 and from the pristine base each time: merging into what was merged
before, or in bfloat16, drifts. Which of the two is done, the server decides by what it offers.
"""

import contextlib
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlhf.core.errors import UserError
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.lora import add_adapter
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.load import load_model
from rlhf.ppo.samplers.client import KEY, Client
from rlhf.ppo.samplers.completion import Completion, read, request, seed_of
from rlhf.ppo.samplers.interface import Sampled

LOAD, UNLOAD, RELOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/collective_rpc"
COMPLETIONS = "/v1/completions"
TIMEOUT_S = 600.0
AT_ONCE = 256  # requests that wait for an answer; vLLM puts them into batches


class VllmSampler:
    """A server's samples, with weights that this class brings there."""

    def __init__(self, url: str, backbone: Backbone, base: Path) -> None:
        """Greet the server. `base`: the folder that both the backbone and the server have loaded.

        Raises:
            UserError: there is none, it serves a shorter context, or it takes no weights while it runs.
        """
        self._client, self._backbone, self._base = Client(url, timeout_s=TIMEOUT_S), backbone, base
        self._version = str(self._client.get("/version").get("version", "unknown"))
        offered = self._client.get("/openapi.json").get("paths", {})
        if LOAD not in offered and RELOAD not in offered:
            raise UserError(
                f"{KEY}: the server takes no weights while it runs (neither {LOAD} nor {RELOAD}); `make vllm` starts "
                "one that does"
            )
        self._merged = LOAD not in offered
        self._served = self._check_served()
        self._folder = Path(tempfile.mkdtemp(prefix="rlhf-vllm-"))
        self._run, self._count = uuid.uuid4().hex[:8], 0
        self._published: tuple[str, str, Path] | None = None  # hash of the weights, name, folder
        self._weights: dict[str, Tensor] = {}
        self._previous: dict[str, Tensor] = {}

    @property
    def version(self) -> dict[str, str]:
        """Name vLLM's version, and how the weights got there."""
        return {"vllm": self._version, "vllm_weights": "merged in float32" if self._merged else "LoRA"}

    @property
    def previous(self) -> Mapping[str, Tensor]:
        """Return the weights that were published before the newest ones."""
        return self._previous

    def publish(self, adapter: str) -> None:
        """Bring the adapter's weights to the server, unless it has exactly these."""
        hashed = self._hash(adapter)
        if self._published and self._published[0] == hashed:
            return
        self._count += 1
        name, folder = f"policy-{self._run}-{self._count}", self._folder / str(self._count)
        folder.mkdir()
        self._backbone.save_adapter(adapter, folder)
        if self._merged:
            merged = folder / "merged"
            merge(self._base, folder, merged)
            self._client.order(RELOAD, {"method": "reload_weights", "kwargs": {"weights_path": str(merged)}})
            name = self._served
        else:
            self._client.order(LOAD, {"lora_name": name, "lora_path": str(folder)})
        self._forget()
        self._published = (hashed, name, folder)
        weights = self._backbone.parameters_of(adapter)
        self._previous, self._weights = self._weights, {key: each.detach().clone() for key, each in weights.items()}

    def generate(
        self,
        prompt_ids: Int[Tensor, "B P"],
        prompt_mask: Bool[Tensor, "B P"],
        sampling: Sampling,
        *,
        uniforms: Float[Tensor, "B R"],
    ) -> Sampled:
        """Sample with what was published last. A row's random numbers make its seed: rows are independent."""
        if self._published is None:
            raise ValueError("nothing was published")
        name, end_ids = self._published[1], self._backbone.end_ids
        embeddings: Any = self._backbone.model.get_input_embeddings()
        vocabulary = int(embeddings.weight.shape[0])
        asked = [
            request(name, ids[real].tolist(), sampling, seed=seed_of(row.cpu().numpy().tobytes()), end_ids=end_ids)
            for ids, real, row in zip(prompt_ids, prompt_mask, uniforms, strict=True)
        ]

        def ask(one: dict[str, object]) -> Completion:
            return read(self._client.post(COMPLETIONS, one), one, end_ids=end_ids, vocabulary=vocabulary)

        with ThreadPoolExecutor(min(AT_ONCE, len(asked))) as pool:
            waiting = [pool.submit(ask, one) for one in asked]
            try:
                found = [each.result() for each in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return collect(found, pad_id=self._backbone.pad_id, device=prompt_ids.device)

    def close(self) -> None:
        """Unload the adapter, if the server still answers, and remove the folders."""
        with contextlib.suppress(UserError):
            self._forget()
        self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _forget(self) -> None:
        """Unload what was published before, and remove its folder."""
        if self._published is None:
            return
        _, name, folder = self._published
        self._published = None
        shutil.rmtree(folder, ignore_errors=True)
        if not self._merged:
            self._client.order(UNLOAD, {"lora_name": name})

    def _hash(self, adapter: str) -> str:
        made = hashlib.sha256()
        for name, weight in self._backbone.parameters_of(adapter).items():
            made.update(name.encode() + weight.detach().float().cpu().contiguous().numpy().tobytes())
        return made.hexdigest()

    def _check_served(self) -> str:
        """Find the base model among those that the server has, and return its name there."""
        models = self._client.get("/v1/models").get("data", [])
        own = [model for model in models if isinstance(model, dict) and not model.get("parent")]
        if len(own) != 1:
            raise UserError(f"{KEY}: the server has {len(own)} base models; one is needed")
        root, longest = str(own[0].get("root")), own[0].get("max_model_len")
        if Path(root).resolve() != self._base.resolve():
            raise UserError(
                f"{KEY}: the server has loaded {root}, and this run starts from {self._base}; `make vllm` again"
            )
        if isinstance(longest, int) and longest < self._backbone.context:
            raise UserError(
                f"{KEY}: the server was started with --max-model-len {longest}; the model's {self._backbone.context} "
                "are needed"
            )
        return str(own[0].get("id"))


def collect(found: Sequence[Completion], *, pad_id: int, device: torch.device) -> Sampled:
    """Put completions into one right-padded batch."""
    width = max(len(one.ids) for one in found)
    lengths = torch.tensor([len(one.ids) for one in found])
    ids = torch.tensor([[*one.ids, *[pad_id] * (width - len(one.ids))] for one in found])
    logprobs = torch.tensor([[*one.logprobs, *[0.0] * (width - len(one.logprobs))] for one in found])
    mask = torch.arange(width) < lengths.unsqueeze(1)
    ended = torch.tensor([one.ended for one in found])
    return Sampled(ids.to(device), mask.to(device), logprobs.to(device), ended.to(device))


def merge(base: Path, adapter: Path, into: Path) -> None:
    """Write the base model with the adapter added to its weights, W + (alpha / rank) B A, in float32.

    The base is read anew each time, so that no rounding of an earlier merge is in it.
    """
    model = add_adapter(load_model(base, dtype=torch.float32, device="cpu"), "default", adapter)
    merged = model.merge_and_unload()
    merged.save_pretrained(into)


def note(sampler: VllmSampler, url: str) -> str:
    """Say at the start what samples, and what that costs."""
    version, weights = sampler.version["vllm"], sampler.version["vllm_weights"]
    return f"vLLM {version} at {url} samples ({weights}); the same bytes again are not promised (docs/gpu.md)"
