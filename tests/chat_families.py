"""Ten well-known ways to write a conversation, restated as short Jinja, with tiny tokenizers that have their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.model_fixtures import byte_bpe, save_model, sentencepiece_bpe

_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_INST = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
_HEADED = "<|start_header_id|>{{ %s }}<|end_header_id|>\n\n"


@dataclass(frozen=True)
class Family:
    """A template, its control tokens, the token that ends a reply, and what it says of system turns."""

    template: str
    tokens: tuple[str, ...]
    end: str
    system: bool = True
    sentencepiece: bool = False
    eos: str | None = None
    strips: bool = False  # white space of the reply
    plain_tokens: bool = False  # the tokens are not marked special
    rstrip: bool = False  # its tokens swallow white space behind them

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Make a tiny tokenizer with the family's tokens and template."""
        made = sentencepiece_bpe(340) if self.sentencepiece else byte_bpe(320)
        known = [token for token in self.tokens if token not in made.get_vocab()]
        made.add_tokens(
            [AddedToken(t, special=not self.plain_tokens, normalized=False, rstrip=self.rstrip) for t in known],
            special_tokens=not self.plain_tokens,
        )
        if self.eos:
            made.eos_token = self.eos
        made.chat_template = self.template
        return made


FAMILIES = {
    "chatml": Family(_CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", eos="<|im_end|>"),
    "qwen2.5": Family(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}" + _CHATML,
        ("<|im_start|>", "<|im_end|>"), "<|im_end|>", plain_tokens=True,
    ),
    "llama2": Family(
        _INST + "{% if m.role == 'user' %}{% if not loop.first %}{{ bos_token }}{% endif %}[INST] "
        "{% if loop.first and system is defined %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}"
        "{{ m.content.strip() }} [/INST]{% else %} {{ m.content.strip() }} {{ eos_token }}{% endif %}{% endfor %}",
        (), "</s>", sentencepiece=True, strips=True,
    ),
    "llama3": Family(
        "{{ bos_token }}{% for m in messages %}" + _HEADED % "m.role" + "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}" + _HEADED % "'assistant'" + "{% endif %}",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>", strips=True,
    ),
    "mistral": Family(
        _INST + "{% if m.role == 'user' %}[INST] {% if loop.last and system is defined %}{{ system }}\n\n{% endif %}"
        "{{ m.content }} [/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        (), "</s>", sentencepiece=True,
    ),
    "gemma": Family(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
        "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", system=False, sentencepiece=True, strips=True,
    ),
    "phi3": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|end|>", rstrip=True,
    ),
    "zephyr": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content + eos_token }}\n"
        "{% if loop.last and add_generation_prompt %}<|assistant|>\n{% endif %}{% endfor %}",
        (), "</s>", sentencepiece=True,
    ),
    "smollm2": Family(
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou are SmolLM."
        "<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"), "<|im_end|>", eos="<|im_end|>",
    ),
    "deepseek": Family(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<\uff5cUser\uff5c>{{ m.content }}"
        "{% elif m.role == 'assistant' %}<\uff5cAssistant\uff5c>{{ m.content }}{{ eos_token }}{% else %}"
        "{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<\uff5cAssistant\uff5c>{% endif %}",
        ("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"), "<|endoftext|>",
    ),
    "vicuna": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ messages[0].content }} {% set rest = messages[1:] %}"
        "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m.role == 'user' %}"
        "USER: {{ m.content }}{% else %} ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT:{% endif %}",
        (), "</s>", sentencepiece=True,
    ),
}  # fmt: skip


def messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Write turns in the libraries' form."""
    return [{"role": role, "content": content} for role, content in turns]


def make_chat_model(folder: Path, name: str) -> Path:
    """A random Llama, two layers and 32 wide, with the tokenizer and the template of a family."""
    tokenizer = FAMILIES[name].tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=256, hidden_size=32, intermediate_size=56,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    return save_model(LlamaForCausalLM(config), tokenizer, folder, seed=4)
