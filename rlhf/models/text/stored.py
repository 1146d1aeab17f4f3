"""Check weights: each tensor is stored once, as numbers that weights are, and finite."""

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from rlhf.core.errors import UserError
from rlhf.models.text.model_folder import weight_files

_WEIGHTS = ("F64", "F32", "F16", "BF16")  # safetensors' names of what is trained on


def check_stored(source: Path, model: PreTrainedModel) -> None:
    """Check the headers of the weight files in `source`, of which `model` was loaded.

    Raises:
        UserError: a tensor is in two files, of which the loader takes one without a word; or a weight is stored in a
            type that the loader casts although its numbers are codes (int8, float8) or lose a part (complex).
    """
    floats = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    prefix, places = f"{model.base_model_prefix}.", dict[str, str]()
    for file in weight_files(source):
        if not file.endswith(".safetensors"):
            continue
        with safe_open(source / file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                if name in places:
                    raise UserError(f"{source}: {name} is in {places[name]} and in {file}; which is meant?")
                places[name] = file
                kind = str(opened.get_slice(name).get_dtype())
                if kind not in _WEIGHTS and floats & {name, f"{prefix}{name}", name.removeprefix(prefix)}:
                    raise UserError(
                        f"{source}: {name} is stored as {kind}, as quantised weights are, which cannot be trained on "
                        "here; take the model in float32, bfloat16 or float16"
                    )


def check_finite(model: PreTrainedModel, source: Path) -> None:
    """Check every tensor, in the precision of the run: a weight above its range is infinite there.

    Raises:
        UserError: one holds NaN or infinity; it is named.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{source}: weights are not finite: {name} holds NaN or infinity in {tensor.dtype}")
