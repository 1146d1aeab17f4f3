"""Transformer blocks as plain functions over packed tokens, on the weights of a loaded `transformers` model.

`Block.__call__` is what the architectures share. Each has a builder for the rest: GPT-2, Llama, GPT-NeoX.

Axes: N packed tokens, D hidden size, H query heads, G key-value heads, E head size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.models.fast.gelu import tanh_gelu
from rlhf.models.fast.linear import Linear

Heads = tuple[Tensor, Tensor, Tensor]  # q (N, H, E), k and v (N, G, E)
Rotation = tuple[Tensor, Tensor] | None  # cos and sin (N, 1, rotated part of E)
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v -> (N, H * E)
LayerAttention = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # the same, with the layer's number first


@dataclass(frozen=True)
class Block:
    """One layer. `parallel`: the MLP reads the layer's input instead of attention's result (GPT-NeoX)."""

    norm1: nn.Module
    norm2: nn.Module
    heads: Callable[[Tensor, Rotation, str | None], Heads]
    out: Linear
    mlp: Callable[[Tensor, str | None], Tensor]
    parallel: bool

    def __call__(
        self,
        x: Float[Tensor, "N D"],
        rotation: Rotation,
        adapter: str | None,
        attention: Attention,
        keep: Int[Tensor, " M"] | None = None,
    ) -> Float[Tensor, "M D"]:
        """Compute x + attention + MLP. `keep`: the tokens that go on after attention; None is all."""
        mixed = attention(*self.heads(self.norm1(x), rotation, adapter))
        x = x if keep is None else x.index_select(0, keep)
        after = x + self.out(mixed, adapter)
        return after + self.mlp(self.norm2(x if self.parallel else after), adapter)


@dataclass(frozen=True)
class Decoder:
    """All layers of a model, from token ids to the hidden states after the final norm."""

    embed: Callable[[Tensor, Tensor], Tensor]
    rotation: Callable[[Tensor, Tensor], Rotation]
    blocks: tuple[Block, ...]
    norm: nn.Module
    kv_heads: int
    head_size: int

    def __call__(
        self,
        ids: Int[Tensor, " N"],
        positions: Int[Tensor, " N"],
        adapter: str | None,
        attention: LayerAttention,
        keep: Int[Tensor, " M"] | None = None,
    ) -> Float[Tensor, "M D"]:
        """Compute hidden states of packed tokens. `keep`: those that the last layer is computed for; None is all."""
        x = self.embed(ids, positions)
        rotation = self.rotation(x, positions)
        for layer, block in enumerate(self.blocks):
            last = layer == len(self.blocks) - 1
            x = block(x, rotation, adapter, partial(attention, layer), keep if last else None)
        normed: Tensor = self.norm(x)
        return normed


def refusal(model: PreTrainedModel) -> str | None:
    """Say why there is no fast path for this model; None if there is one.

    Variants of an architecture that its builder does not know are found by their numbers, not by their keys
    (`rlhf.models.policy.conformance`).
    """
    kind = model.config.model_type
    return None if kind in _BUILDERS else f"no fast path for {kind} (there is one for {', '.join(_BUILDERS)})"


def build(model: PreTrainedModel) -> Decoder:
    """Build the fast decoder over the model's weights, adapters included; nothing is copied."""
    return _BUILDERS[model.config.model_type](model)


def _gpt2(model: Any) -> Decoder:
    body, count = model.transformer, model.config.n_head
    size = model.config.n_embd // count

    def block(layer: Any) -> Block:
        qkv, up, down = Linear(layer.attn.c_attn), Linear(layer.mlp.c_fc), Linear(layer.mlp.c_proj)
        activation = _activation(layer.mlp.act, model.config.activation_function)

        def heads(x: Tensor, rotation: Rotation, adapter: str | None) -> Heads:
            q, k, v = qkv(x, adapter).view(len(x), 3, count, size).unbind(1)
            return q, k, v

        return Block(
            layer.ln_1, layer.ln_2, heads, Linear(layer.attn.c_proj),
            mlp=lambda x, adapter: down(activation(up(x, adapter)), adapter), parallel=False,
        )  # fmt: skip

    return Decoder(
        embed=lambda ids, positions: body.wte(ids) + body.wpe(positions),
        rotation=lambda x, positions: None,
        blocks=tuple(block(layer) for layer in body.h),
        norm=body.ln_f,
        kv_heads=count,
        head_size=size,
    )


def _llama(model: Any) -> Decoder:
    body, config = model.model, model.config
    size = config.head_dim

    def block(layer: Any) -> Block:
        own, mlp = layer.self_attn, layer.mlp
        to_q, to_k, to_v = Linear(own.q_proj), Linear(own.k_proj), Linear(own.v_proj)
        gate, up, down = Linear(mlp.gate_proj), Linear(mlp.up_proj), Linear(mlp.down_proj)
        activation = _activation(mlp.act_fn, config.hidden_act)

        def heads(x: Tensor, rotation: Rotation, adapter: str | None) -> Heads:
            q, k, v = (to(x, adapter).view(len(x), -1, size) for to in (to_q, to_k, to_v))
            return _rotate(q, rotation), _rotate(k, rotation), v

        return Block(
            layer.input_layernorm, layer.post_attention_layernorm, heads, Linear(own.o_proj),
            mlp=lambda x, adapter: down(activation(gate(x, adapter)) * up(x, adapter), adapter), parallel=False,
        )  # fmt: skip

    return Decoder(
        embed=lambda ids, positions: body.embed_tokens(ids),
        rotation=_rotary(body.rotary_emb),
        blocks=tuple(block(layer) for layer in body.layers),
        norm=body.norm,
        kv_heads=config.num_key_value_heads,
        head_size=size,
    )


def _neox(model: Any) -> Decoder:
    body, config = model.gpt_neox, model.config
    size = config.hidden_size // config.num_attention_heads

    def block(layer: Any) -> Block:
        qkv = Linear(layer.attention.query_key_value)
        up, down = Linear(layer.mlp.dense_h_to_4h), Linear(layer.mlp.dense_4h_to_h)
        activation = _activation(layer.mlp.act, config.hidden_act)

        def heads(x: Tensor, rotation: Rotation, adapter: str | None) -> Heads:
            q, k, v = qkv(x, adapter).view(len(x), -1, 3, size).unbind(2)  # q, k, v head by head
            return _rotate(q, rotation), _rotate(k, rotation), v

        return Block(
            layer.input_layernorm, layer.post_attention_layernorm, heads, Linear(layer.attention.dense),
            mlp=lambda x, adapter: down(activation(up(x, adapter)), adapter), parallel=config.use_parallel_residual,
        )  # fmt: skip

    return Decoder(
        embed=lambda ids, positions: body.embed_in(ids),
        rotation=_rotary(body.rotary_emb),
        blocks=tuple(block(layer) for layer in body.layers),
        norm=body.final_layer_norm,
        kv_heads=config.num_attention_heads,
        head_size=size,
    )


_BUILDERS: dict[str, Callable[[Any], Decoder]] = {"gpt2": _gpt2, "llama": _llama, "gpt_neox": _neox}


def _activation(module: nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    """Take the model's own activation, or the faster `tanh_gelu` where that is the tanh form of GELU."""
    return tanh_gelu if name in ("gelu_new", "gelu_pytorch_tanh") else module


def _rotary(module: nn.Module) -> Callable[[Tensor, Tensor], Rotation]:
    """Compute rotary cosines and sines by the model's own module, so that scaled variants are right as well."""

    def rotation(x: Tensor, positions: Tensor) -> Rotation:
        cos, sin = module(x, positions.unsqueeze(0))
        return cos[0].unsqueeze(1), sin[0].unsqueeze(1)

    return rotation


def _rotate(x: Float[Tensor, "N H E"], rotation: Rotation) -> Float[Tensor, "N H E"]:
    """Rotate the first part of each head by position, halves paired (Su et al. 2021, section 3.4.2)."""
    if rotation is None:
        return x
    cos, sin = rotation
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return turned if rest.shape[-1] == 0 else torch.cat((turned, rest), dim=-1)
