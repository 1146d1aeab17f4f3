"""The fast backbone: the plain one's interface and numbers, on its own forward pass and decode loop.

It does no work on padding (sequences are packed), makes logits at response positions only and keeps none, skips the
last layer where its states are not read, merges adapters instead of adding peft's products, and decodes into one cache.
"""

from typing import cast

from jaxtyping import Bool, Float, Int
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.models.fast.blocks import build, refusal
from rlhf.models.fast.generate import generate
from rlhf.models.fast.head import fused_logprobs
from rlhf.models.fast.linear import Linear
from rlhf.models.fast.packing import PackedAttention, Packing, before_responses
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.outputs import Forward, Generation, States, spread
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import Episodes


class FastBackbone(Backbone):
    """A Backbone for the architectures of `blocks`. Weights, adapters and their saving are those of the plain one.

    Adapter weights must be changed in place, as optimisers do, so that their version counts up. Changes through `.data`
    or by a fused optimiser (`fused=True`) leave no trace, and would be missed.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer)
        plain = cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
        self._fast = build(plain)
        self._fast_head = Linear(cast(nn.Module, plain.get_output_embeddings()))

    @staticmethod
    def refusal(model: PreTrainedModel | PeftModel) -> str | None:
        """Say why this model needs the plain backbone; None if it does not."""
        if not isinstance(model, PeftModel):
            return refusal(model)
        for name, config in model.peft_config.items():
            if not isinstance(config, LoraConfig) or config.use_dora or config.bias != "none" or config.modules_to_save:
                return f"no fast path for the kind of adapter {name!r} is"
        return refusal(cast(PreTrainedModel, model.get_base_model()))

    def forward(
        self, episodes: Episodes, *, adapter: str | None, temperature: float, states: States = "all"
    ) -> Forward:
        """Compute what `Backbone.forward` does; with `states` "response" all other hidden states are 0."""
        self._check_adapter(adapter)
        mask = episodes.sequence_mask
        packing = Packing.of(mask)
        self._check_fits(packing.width)
        queries = before_responses(episodes, packing)
        some = queries if states == "response" else None
        packed = self._fast(
            episodes.sequence_ids[mask],
            packing.positions,
            adapter,
            PackedAttention(packing, len(self._fast.blocks), some),
            None if some is None else some.index,
        )
        before = packed if some is not None else packed.index_select(0, queries.index)
        logprobs, entropy = fused_logprobs(
            before,
            self._fast_head.weight,
            self._fast_head.bias,
            episodes.response_ids[episodes.mask],
            temperature=temperature,
        )
        slots = mask.flatten().nonzero().squeeze(1)
        slots = slots if some is None else slots.index_select(0, some.index)
        hidden = packed.new_zeros(mask.numel(), self.hidden_size).index_copy(0, slots, packed)
        return Forward(spread(logprobs, episodes.mask), spread(entropy, episodes.mask), hidden.view(*mask.shape, -1))

    def generate(
        self,
        prompt_ids: Int[Tensor, "B P"],
        prompt_mask: Bool[Tensor, "B P"],
        sampling: Sampling,
        *,
        adapter: str | None,
        uniforms: Float[Tensor, "B R"] | None,
    ) -> Generation:
        """As `Backbone.generate`."""
        self._check_adapter(adapter)
        self._check_fits(int(prompt_mask.sum(1).max()) + sampling.max_new_tokens)
        return generate(
            self._fast,
            lambda states: self._fast_head(states, None),
            prompt_ids,
            prompt_mask,
            sampling,
            adapter=adapter,
            uniforms=uniforms,
            end_ids=self.end_ids,
            pad_id=self.pad_id,
        )
