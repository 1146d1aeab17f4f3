"""Tiny models with random weights, as folders on disk: GPT-2 and Llama shapes, hermetic."""

import json
import shutil
import string
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rlhf.models.policy.lora import Targets, resolve_targets, write_adapter

TEXTS = (
    "\n\nHuman: What is the capital of France?\n\nAssistant: The capital of France is Paris.",
    "\n\nHuman: How do I boil an egg?\n\nAssistant: Put the egg in boiling water for eight minutes.",
    "\n\nHuman: Why is the sky blue?\n\nAssistant: Because air scatters blue light more than red light.",
)


def byte_bpe(vocab: int) -> PreTrainedTokenizerFast:
    """A small byte-level BPE with EOS and no pad token, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def sentencepiece_bpe(vocab: int) -> PreTrainedTokenizerFast:
    """A small BPE in Llama's manner: BOS in front, spaces as "▁", one of them put before any text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=tokens, show_progress=False)
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in TEXTS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int) -> Path:
    """Redraw the weights widely enough that attention, positions and norms matter, and save."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.15 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def once(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    """Have a model made for the first folder, and copied to every other one."""
    master = cache(lambda: TemporaryDirectory(prefix=make.__name__))

    @wraps(make)
    def copy(folder: Path) -> Path:
        made = Path(master().name)
        if not any(made.iterdir()):
            make(made)
        return shutil.copytree(made, folder, dirs_exist_ok=True)

    return copy


@once
def make_gpt2(folder: Path) -> Path:
    """Two layers, 32 wide, 4 heads, context 128."""
    tokenizer = byte_bpe(320)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return save_model(GPT2LMHeadModel(config), tokenizer, folder, seed=1)


@once
def make_llama(folder: Path) -> Path:
    """Two layers, 32 wide, 4 heads that share 2 key-value heads, context 128."""
    tokenizer = sentencepiece_bpe(340)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=128, hidden_size=32, intermediate_size=56,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    return save_model(LlamaForCausalLM(config), tokenizer, folder, seed=2)


@once
def make_neox(folder: Path) -> Path:
    """Pythia's shape: two layers, 32 wide, parallel residual, a quarter of each head rotated."""
    tokenizer = byte_bpe(320)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer) + 8, max_position_embeddings=128, hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return save_model(GPTNeoXForCausalLM(config), tokenizer, folder, seed=3)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 with a byte-level tokenizer."""
    return make_gpt2(tmp_path_factory.mktemp("tiny_gpt2"))


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a sentencepiece-like tokenizer."""
    return make_llama(tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session")
def tiny_neox_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-NeoX (Pythia) with a byte-level tokenizer."""
    return make_neox(tmp_path_factory.mktemp("tiny_neox"))


WORD_PIECES = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *"[]?:.",
    *(f"##{letter}" for letter in string.ascii_lowercase),
    "please", "sky", "blue", "egg", "water", "light", "france", "paris", "human", "assistant", "what", "is",
)  # fmt: skip


@once
def make_encoder(folder: Path) -> Path:
    """A random BERT of two layers, 24 wide, with word pieces, in the layout of sentence-transformers: the mean of at
    most 40 pieces, normalised."""
    tokenizer = BertTokenizerFast(vocab={piece: number for number, piece in enumerate(WORD_PIECES)})
    config = BertConfig(
        vocab_size=len(WORD_PIECES), hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=64,
    )  # fmt: skip
    save_model(BertModel(config), tokenizer, folder, seed=4)
    lay_out(folder, max_seq_length=40)
    return folder


def lay_out(folder: Path, *, pooling: str = "mean_tokens", normalise: bool = True, **limits: object) -> None:
    """Add what sentence-transformers writes beside an encoder."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalise else [])]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    flags = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 24, **flags}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": False, **limits}))


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random sentence encoder of BERT's shape."""
    return make_encoder(tmp_path_factory.mktemp("tiny_encoder"))


def make_adapter(base: Path, folder: Path, *, seed: int, targets: Targets = "auto") -> Path:
    """A rank-4 LoRA over `base` in peft form with both factors random, so that it changes what the model says."""
    bare = AutoModelForCausalLM.from_pretrained(base)
    model = get_peft_model(
        bare,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=4,
            lora_alpha=8,
            target_modules=resolve_targets(bare, targets),
            base_model_name_or_path=str(base),
        ),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    write_adapter(model, "default", folder)
    return folder


def rounded_by_place(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[int]:
    """Let `module.pooled` round every row otherwise, as products of other shapes do on some processors; return the list
    that the number of rows of each call is added to."""
    pooled, calls = module.pooled, list[int]()

    def rounded(backbone: object, rows: Sequence[object], **kwargs: object) -> Tensor:
        features: Tensor = pooled(backbone, rows, **kwargs)
        places = 1.0 + torch.arange(len(rows))[:, None] + 100.0 * len(calls)
        calls.append(len(rows))
        return features * (1 + 1e-6 * places)

    monkeypatch.setattr(module, "pooled", rounded)
    return calls
