"""The plain backbone: one copy of the frozen base weights and named LoRA adapters over it, through peft.

Nothing here knows an architecture. The decoder and the language-model head come from transformers, so that any
causal language model works; `rlhf.models.fast` computes the same numbers faster for some of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.core.errors import UserError
from rlhf.models.policy.head import decoder_of, find_head
from rlhf.models.policy.logprobs import chunked, draw
from rlhf.models.policy.lora import add_adapter, write_adapter
from rlhf.models.policy.outputs import Forward, Generation, States, Step, collect, ends, position_ids, spread
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.chat_mark import end_id
from rlhf.models.text.context import context_of
from rlhf.models.text.end_tokens import end_tokens
from rlhf.models.text.load import load_model, load_tokenizer
from rlhf.models.text.tokens import Episodes

# Logits of this many tokens exist at once: 512 * 50257 float32 are 100 MB.
_CHUNK_ROWS = 512
_ADAPTED = ("lora_", "modules_to_save", "trainable_tokens")  # modules of peft that hold a weight for each adapter


class Backbone:
    """One copy of the frozen base weights, and named LoRA adapters over it; adapter None is the bare base."""

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """`model` stays the caller's: nothing is copied. A PeftModel brings its adapters along."""
        self.model = model
        self.tokenizer = tokenizer
        plain = cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
        self._decoder: nn.Module = decoder_of(plain)
        self._takes = set(signature(self._decoder.forward).parameters)
        self.hidden_size: int  # what the head reads: in some configs hidden_size is another number
        self._head, self.hidden_size = find_head(plain)
        self.context: int = context_of(plain.config.to_dict())
        self.eos_id: int = end_id(tokenizer)  # of a reply: a chat template may have its own
        self.end_ids: tuple[int, ...] = end_tokens(plain, tokenizer)
        self.pad_id: int = tokenizer.pad_token_id
        self._trainable = {n for n, p in model.named_parameters() if p.requires_grad}

    @classmethod
    def load(
        cls,
        base: Path,
        adapters: Mapping[str, Path],
        *,
        trainable: Sequence[str] = (),
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> "Backbone":
        """Load the base weights once from `base`, then each adapter by name; only those in `trainable` may change.

        Raises:
            UserError: a folder holds no model or adapter, or the adapter is of another model.
        """
        model: PreTrainedModel | PeftModel = load_model(base, dtype=dtype, device=device)
        for name, folder in adapters.items():
            model = add_adapter(model, name, folder)
        model.requires_grad_(False)
        model.eval()
        backbone = cls(model, load_tokenizer(base))
        for name in trainable:
            for parameter in backbone.parameters_of(name).values():
                parameter.requires_grad_(True)
        backbone._trainable = {n for n, p in model.named_parameters() if p.requires_grad}
        return backbone

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.model.parameters()).device

    def forward(
        self, episodes: Episodes, *, adapter: str | None, temperature: float, states: States = "all"
    ) -> Forward:
        """Compute logprobs and entropies of the response tokens, and hidden states.

        `states`: "response" asks for the hidden states before each response token only (logprobs and values are read
        from them), and leaves an engine free to skip the others; "all" asks for all of them (rewards are read from
        them).

        Gradients flow if they are enabled and the adapter is trainable. Position ids count real tokens, so that padding
        changes nothing; logits exist at response positions only.

        Raises:
            UserError: an episode exceeds the context, or the adapter is not loaded.
        """
        prompt_width, width = episodes.prompt_ids.shape[1], episodes.response_ids.shape[1]
        mask = episodes.sequence_mask
        with self.using(adapter):
            hidden = self._hidden(episodes.sequence_ids, mask).masked_fill(~mask.unsqueeze(-1), 0.0)
            before = hidden[:, prompt_width - 1 : prompt_width - 1 + width]  # the state each token is drawn from
            logprobs, entropy = chunked(
                self._head,
                before[episodes.mask],
                episodes.response_ids[episodes.mask],
                temperature=temperature,
                rows=_CHUNK_ROWS,
            )
        return Forward(spread(logprobs, episodes.mask), spread(entropy, episodes.mask), hidden)

    @torch.no_grad()
    def generate(
        self,
        prompt_ids: Int[Tensor, "B P"],
        prompt_mask: Bool[Tensor, "B P"],
        sampling: Sampling,
        *,
        adapter: str | None,
        uniforms: Float[Tensor, "B R"] | None,
    ) -> Generation:
        """Sample responses until an end token (`end_ids`) or `sampling.max_new_tokens`.

        `uniforms` in [0, 1), one for each episode and token, decide the samples by the inverse distribution
        function, so that splitting or permuting a batch changes nothing; None is greedy. Logprobs are at the
        temperature either way. Raises UserError if prompt and response do not fit the context.
        """
        steps = list(self.steps(prompt_ids, prompt_mask, sampling, adapter=adapter, uniforms=uniforms))
        alive = torch.stack([step.alive for step in steps], 1)
        return collect(
            [step.drawn for step in steps],
            torch.stack([step.state for step in steps], 1),
            alive,
            ended=ends(steps[-1].drawn.ids, self.end_ids) | ~alive[:, -1],
            pad_id=self.pad_id,
        )

    @torch.no_grad()
    def steps(
        self,
        prompt_ids: Int[Tensor, "B P"],
        prompt_mask: Bool[Tensor, "B P"],
        sampling: Sampling,
        *,
        adapter: str | None,
        uniforms: Float[Tensor, "B R"] | None,
    ) -> Iterator[Step]:
        """`generate` as it goes: one step a token, until every row has ended. The adapter stays set between steps."""
        self._check_fits(int(prompt_mask.sum(1).max()) + sampling.max_new_tokens)
        ids, mask = prompt_ids, prompt_mask
        alive = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        cache: Any = None
        with self.using(adapter):
            for number in range(sampling.max_new_tokens):
                output = self._decode(ids, mask, cache)
                cache = output.past_key_values
                state = output.last_hidden_state[:, -1]
                column = None if uniforms is None else uniforms[:, number]
                drawn = draw(self._head(state), column, temperature=sampling.temperature)
                yield Step(drawn, state, alive)
                ids = drawn.ids.masked_fill(~alive, self.pad_id).unsqueeze(1)
                alive = alive & ~ends(drawn.ids, self.end_ids)
                if not alive.any():
                    break
                mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)

    def logits(self, states: Float[Tensor, "N D"], *, adapter: str | None) -> Float[Tensor, "N V"]:
        """Compute the logits of hidden states, with gradients where they are enabled."""
        with self.using(adapter):
            return self._head(states)

    def adapters(self) -> tuple[str, ...]:
        """List the names of the adapters."""
        return tuple(self.model.peft_config) if isinstance(self.model, PeftModel) else ()

    def parameters_of(self, adapter: str) -> dict[str, nn.Parameter]:
        """Return the weights of one adapter, by name, in model order."""
        self._check_adapter(adapter)
        return {n: p for n, p in self.model.named_parameters() if _belongs_to(n, adapter)}

    def save_adapter(self, adapter: str, folder: Path) -> None:
        """Write an adapter in peft form; equal weights give equal bytes."""
        self._check_adapter(adapter)
        write_adapter(cast(PeftModel, self.model), adapter, folder)

    def _hidden(self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        self._check_fits(int(mask.sum(1).max()))
        output = self._decoder(**self._inputs(ids, mask, position_ids(mask)), use_cache=False)
        states: Tensor = output.last_hidden_state
        return states

    def _decode(self, ids: Int[Tensor, "B N"], mask: Bool[Tensor, "B T"], cache: Any) -> Any:
        """Decode one step with the key-value cache: `ids` are the newest N of the T tokens under `mask`."""
        inputs = self._inputs(ids, mask, position_ids(mask)[:, -ids.shape[1] :])
        output = self._decoder(**inputs, past_key_values=cache, use_cache=True)
        if getattr(output, "past_key_values", None) is None:
            raise UserError(f"{type(self._decoder).__name__} gives no key-value cache, which sampling needs")
        return output

    def _inputs(self, ids: Tensor, mask: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """Name the decoder's inputs. One that takes no position ids counts the mask by itself, or is found out by the
        stage conformance."""
        inputs = {"input_ids": ids, "attention_mask": mask.long()}
        return inputs | ({"position_ids": positions} if "position_ids" in self._takes else {})

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[None]:
        """Run the block with one adapter, or with none; which weights are trainable never changes."""
        if not isinstance(self.model, PeftModel):
            self._check_adapter(adapter)
            yield
            return
        if adapter is None:
            with self.model.disable_adapter():
                yield
        else:
            self._check_adapter(adapter)
            self.model.set_adapter(adapter)
            self._restore_trainable()
            yield
        self._restore_trainable()

    def _restore_trainable(self) -> None:
        # peft makes whatever adapter it activates trainable and freezes the others.
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self._trainable)

    def _check_adapter(self, adapter: str | None) -> None:
        if adapter is not None and adapter not in self.adapters():
            raise UserError(f"adapter {adapter!r}: not loaded; allowed: {list(self.adapters())}")

    def _check_fits(self, length: int) -> None:
        if length > self.context:
            raise UserError(f"a sequence of {length} tokens does not fit the model's context of {self.context}")


def _belongs_to(parameter: str, adapter: str) -> bool:
    """Tell whether a parameter, by its full name, is a weight of an adapter: those of linear layers end in
    lora_A.<adapter>.weight, those of embeddings in lora_embedding_A.<adapter>."""
    parts = parameter.split(".")
    return any(part.startswith(_ADAPTED) and following == adapter for part, following in pairwise(parts))
