"""PPO's steps with a real vLLM server, started as `make vllm` starts it. Set RLHF_VLLM_PYTHON to .vllm/bin/python.

vLLM on a CPU takes heads of 32 numbers or more, so that the models here are wider than the other tests'.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from rlhf.core.errors import UserError
from rlhf.ppo.actors import POLICY, Actors
from rlhf.ppo.guards import SelfCheckError
from rlhf.ppo.samplers.client import Client
from rlhf.ppo.samplers.vllm import LOAD, RELOAD, VllmSampler
from rlhf.ppo.state import Progress
from rlhf.ppo.step import step
from tests.model_fixtures import byte_bpe, make_adapter, save_model, sentencepiece_bpe
from tests.ppo.worlds import make_actors, make_params, make_setup

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from vllm_server import command

PYTHON = os.environ.get("RLHF_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(not PYTHON, reason="RLHF_VLLM_PYTHON is not set: .vllm/bin/python, which `make vllm` makes"),
]
START_S = 1200.0


def make_wide_llama(folder: Path) -> Path:
    tokenizer = sentencepiece_bpe(340)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=128, hidden_size=128, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=64, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    return save_model(LlamaForCausalLM(config), tokenizer, folder, seed=2)


def make_wide_gpt2(folder: Path) -> Path:
    tokenizer = byte_bpe(320)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=128, n_layer=2, n_head=2,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return save_model(GPT2LMHeadModel(config), tokenizer, folder, seed=1)


@pytest.fixture(scope="module", params=[make_wide_llama, make_wide_gpt2], ids=["adapters", "merged"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Actors, str, Path]]:
    """Actors, and the address of a server with their base."""
    folder = tmp_path_factory.mktemp("vllm")
    base = request.param(folder / "base")
    adapter = make_adapter(base, folder / "sft", seed=5)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    resolved = {"ppo": {"sampler_url": url}, "runtime": {"dtype": "float32"}, "sft": {"lora": {"rank": 4}}}
    words, variables = command(Path(PYTHON), base, json.loads((base / "config.json").read_text()), resolved)
    environment = {**os.environ, **variables, "VLLM_CPU_KVCACHE_SPACE": "1"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*words, "--enforce-eager"], stdout=log, stderr=log, env=environment)
    try:
        wait(url, server, folder / "log")
        yield make_actors(base, adapter), url, base
    finally:
        server.terminate()
        server.wait()


def wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        with suppress(UserError), closing(Client(url, timeout_s=5.0)) as client:
            client.get("/version")
            return
        time.sleep(1.0)
    pytest.fail(log.read_text(errors="replace")[-2000:])


def test_three_steps_and_an_adapter_that_never_arrives(
    world: tuple[Actors, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    actors, url, base = world
    with closing(VllmSampler(url, actors.backbone, base)) as sampler:
        actors = replace(actors, engine_elsewhere=sampler)
        setup = make_setup(actors, make_params(temperature=0.7, lr=0.02))
        progress = Progress.start(setup.params)
        for _ in range(3):
            made, stats = step(setup, progress)
            assert made.measures.sampler_gap < 1e-3  # nats: float32 on both sides
            assert stats.first_ratio_gap < 1e-4
            progress.advance(setup.params, made.measures, stats, lr=0.02, validation=None)
        sampler.publish(POLICY)
        order, name = Client.order, sampler._published

        def lost(client: Client, path: str, body: dict[str, object]) -> None:
            """Answers that all is well, and does nothing."""
            if path not in (LOAD, RELOAD):
                order(client, path, body)

        with torch.no_grad():
            for weight in actors.backbone.parameters_of(POLICY).values():
                weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        monkeypatch.setattr(Client, "order", lost)
        monkeypatch.setattr(VllmSampler, "_forget", lambda sampler: None)
        sampler.publish(POLICY)
        assert name is not None
        assert sampler._published is not None
        sampler._published = (sampler._published[0], name[1], name[2])  # what it still has answers
        with pytest.raises(SelfCheckError, match="sampler"):
            step(setup, progress)
