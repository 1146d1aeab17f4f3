"""Keep a frozen model in eval mode for good, so that training an adapter over it drops and draws nothing in it."""

from types import MethodType
from typing import cast

from torch import nn


def stay_in_eval(model: nn.Module) -> None:
    """Make `model.train()` reach the adapters alone; the model's own layers stay in eval mode.

    Dropout, layer drop and router noise hang on `training` and go by a dozen names (`dropout`, `attn_pdrop`,
    `hidden_dropout`, `layerdrop`, …), so that none of them is looked for by name. An adapter's own dropout
    (`sft.lora.dropout`) is on in train mode, as it says.
    """
    model.train = MethodType(_train, model)  # type: ignore[method-assign] # of this instance alone
    model.eval()


def _train(model: nn.Module, mode: bool = True) -> nn.Module:
    for module in model.modules():
        module.training = False
    for module in model.modules():
        if mode and hasattr(module, "adapter_layer_names"):  # a layer that peft has put in a layer's place
            module.training = True
            for name in (*cast(tuple[str, ...], module.adapter_layer_names), "lora_dropout"):
                part = getattr(module, name, None)
                if isinstance(part, nn.Module):
                    part.train()
    return model
