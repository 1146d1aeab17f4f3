"""How vLLM is started: against the options that vLLM 0.32 was seen to take."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from vllm_server import command


def resolved(rank: int = 8, url: str = "http://127.0.0.1:8123") -> dict[str, object]:
    lora = {"rank": rank, "alpha": 16.0}
    return {"ppo": {"sampler_url": url}, "runtime": {"dtype": "bfloat16"}, "sft": {"lora": lora}}


def options(words: list[str]) -> dict[str, str]:
    """Each option with its value, "" for a flag."""
    pairs = zip(words, [*words[1:], "--"], strict=True)
    return {word: "" if after.startswith("--") else after for word, after in pairs if word.startswith("--")}


def test_a_server_for_adapters(tmp_path: Path) -> None:
    config = {"model_type": "llama", "max_position_embeddings": 2048}
    words, variables = command(Path("/env/bin/python"), tmp_path, config, resolved(rank=12))
    assert words[:3] == ["/env/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    assert options(words) == {
        "--model": str(tmp_path), "--served-model-name": "base", "--host": "127.0.0.1", "--port": "8123",
        "--dtype": "bfloat16", "--generation-config": "vllm", "--logprobs-mode": "processed_logprobs",
        "--max-model-len": "2048", "--max-lora-rank": "16", "--max-loras": "1", "--max-cpu-loras": "2",
        "--no-enable-prefix-caching": "", "--enable-lora": "",
    }  # fmt: skip
    assert variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert "VLLM_SERVER_DEV_MODE" not in variables


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_a_server_for_merged_weights(tmp_path: Path, kind: str) -> None:
    words, variables = command(Path("/p"), tmp_path, {"model_type": kind, "n_positions": 1024}, resolved())
    assert not [word for word in words if "lora" in word]
    assert options(words)["--max-model-len"] == "1024"
    assert (variables["VLLM_SERVER_DEV_MODE"], "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in variables) == ("1", False)


def test_a_rank_that_vllm_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"sft\.lora\.rank: found 600"):
        command(Path("/p"), tmp_path, {"model_type": "llama"}, resolved(rank=600))
