"""Add a constant to the logit of a Llama classifier, whose head and last norm have no bias.

One layer is added above the others. Its attention is zero; its MLP, which in this architecture may have biases, reads
n = norm(x), the very state that the score reads, and adds to the residual stream

    K (v . n + c)   in dimension 0,   K M   in dimension 1,

with K and M so large that both what was there before and the score itself are nothing beside K M. The last norm then
divides by K M / sqrt(D), a known number, and its weight takes that back: dimension 0 is v . n + c for the score to
read.
Powers of two, so that scaling rounds nothing. Relative errors: |x| / K, score^2 / (2 M^2), and the rounding of v . n.
Not for float16, which ends at 65504.
"""

import math
from copy import deepcopy
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

STATE, NORM = 2.0**27, 2.0**20  # K and M
OPEN = 16.0  # of the gate: silu(16) = 16 / (1 + e^-16)


def takes_a_layer(config: Any) -> bool:
    """Say whether the architecture's MLPs may have biases, and its activation is known."""
    return (config.model_type, getattr(config, "hidden_act", None)) == ("llama", "silu")


@torch.no_grad()
def with_constant(model: PreTrainedModel, weight: Float[Tensor, " D"], constant: float) -> PreTrainedModel:
    """Make a classifier one layer deeper whose logit is weight . h + constant, h the last state of `model`."""
    config = deepcopy(model.config)
    config.num_hidden_layers, config.mlp_bias = config.num_hidden_layers + 1, True
    made: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    deeper: Any = made
    for name in deeper.load_state_dict(model.state_dict(), strict=False).missing_keys:
        deeper.get_parameter(name).zero_()
    layer, last_norm = deeper.base_model.layers[-1], cast(nn.Module, model.base_model.norm)
    layer.input_layernorm.weight.fill_(1.0)
    layer.post_attention_layernorm.weight.copy_(cast(Tensor, last_norm.weight))
    layer.mlp.gate_proj.bias[0] = OPEN
    layer.mlp.up_proj.weight[0] = weight
    layer.mlp.up_proj.bias[0] = constant
    layer.mlp.down_proj.weight[0, 0] = STATE * (1 + math.exp(-OPEN)) / OPEN
    layer.mlp.down_proj.bias[1] = STATE * NORM
    deeper.base_model.norm.weight.zero_()
    deeper.base_model.norm.weight[0] = NORM / math.sqrt(weight.shape[0])
    deeper.score.weight.zero_()
    deeper.score.weight[0, 0] = 1.0
    made.eval()
    return made
