"""Write the README.md beside each export: what it is, how to load it with the libraries alone, the run's numbers."""

from pathlib import Path

_TITLES = {
    "base": "Base model",
    "sft": "Policy after supervised fine-tuning",
    "ppo": "Policy after proximal policy optimisation",
}
_MEASURED = "## Measured"  # from this heading on, a model card of the run holds for its exports too

_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("{base}")  # the base model of the run
model = PeftModel.from_pretrained(base, ".")
tokenizer = AutoTokenizer.from_pretrained(".")"""
_MERGED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".", padding_side="left")
inputs = tokenizer("\\n\\nHuman: Where is Paris?\\n\\nAssistant:", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=32)[0]))"""
_CHAT = """\
from transformers import pipeline

answer = pipeline("text-generation", model=".")
messages = [{"role": "user", "content": "Where is Paris?"}]
print(answer(messages, max_new_tokens=32)[0]["generated_text"][-1]["content"])"""
_CLASSIFIER = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
text = "\\n\\nHuman: Where is Paris?\\n\\nAssistant:" + " In France." + tokenizer.eos_token
print(model(**tokenizer([text], padding=True, return_tensors="pt")).logits[:, 0]{offset})"""
_CHAT_CLASSIFIER = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
messages = [{"role": "user", "content": "Where is Paris?"}]
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
text = prompt + "In France." + "{end}"
batch = tokenizer([text], add_special_tokens=False, padding=True, return_tensors="pt")
print(model(**batch).logits[:, 0]{offset})"""
_SCORE = (
    "A score is in standard deviations of the scores of the fine-tuned policy's own replies, 0 their mean. "
    "It is what a policy was optimised for, not a measure of quality."
)


def adapter_card(name: str, adapter: Path, base: Path) -> str:
    """Write the card of an adapter as it is."""
    what = "A LoRA adapter in peft form, the bytes of the run's own. It belongs onto the run's base model and no other."
    return _card(name, adapter, what, _ADAPTER.replace("{base}", base.as_posix()), library="peft", tags=("lora",))


def merged_card(name: str, adapter: Path | None, *, chat: bool = False) -> str:
    """Write the card of a merged model, or of the base model where there is no adapter. `chat`: its prompts are written
    by the tokenizer's chat template."""
    what = (
        "The base model as the run used it." if adapter is None else "Base model and LoRA adapter as one, in float32."
    )
    if chat:
        what += " Its prompts are conversations, written by the chat template of its tokenizer."
    return _card(name, adapter, what, _CHAT if chat else _MERGED, library="transformers", tags=("merged",))


def classifier_card(reward: Path, offset: float, *, deeper: bool, chat_end: str | None = None) -> str:
    """Write the card of a reward model as a sequence classifier. `offset` is the constant to add to logits to get
    scores; `deeper` says whether a layer was added that makes the constant; `chat_end` is the token that ends a reply
    where a chat template writes the prompts."""
    what = f"A reward model as a sequence classifier with one label: its logit is the score. {_SCORE}"
    if offset:
        what += (
            " This architecture has no bias that could hold the normalisation's constant: add `reward_offset` of "
            "config.json to the logit. Differences of scores are right without it."
        )
    if deeper:
        what += (
            " This architecture has no bias on its score, so the last layer is not the model's own: it takes the "
            "normalised state to the score, constant included, with weights of up to 2^47. It is for scoring in "
            "float32 or bfloat16, not for float16, and not to be trained further."
        )
    what += " The run encodes prompt and reply apart; a tokenizer that merges across the seam should do so here too."
    code = _CLASSIFIER if chat_end is None else _CHAT_CLASSIFIER.replace("{end}", chat_end)
    code = code.replace("{offset}", " + model.config.reward_offset" if offset else "")
    return _card("reward", reward, what, code, library="transformers", tags=("reward-model",))


def parts_card(reward: Path, code: str) -> str:
    """Write the card of a reward model in parts; `code` puts them together."""
    what = f"A reward model as two parts, a backbone and a head. {_SCORE} Run the lines in this folder."
    return _card("reward", reward, what, code.rstrip(), library="transformers", tags=("reward-model",))


def _card(name: str, source: Path | None, what: str, code: str, *, library: str, tags: tuple[str, ...]) -> str:
    title = "Reward model" if name == "reward" else _TITLES.get(name, f"Policy after {name.removeprefix('offline/')}")
    task = "text-classification" if name == "reward" else "text-generation"
    front = ["---", f"library_name: {library}", f"pipeline_tag: {task}", "tags:", *(f"- {tag}" for tag in tags), "---"]
    parts = ["\n".join(front), f"# {title}", what, f"## Loading it\n\n```python\n{code}\n```"]
    return "\n\n".join([*parts, _known(source), "What it was made from, by SHA-256: `export.json`."]) + "\n"


def _known(source: Path | None) -> str:
    """Copy numbers, parameters and limits from the card that the run wrote beside its own model, if it wrote one."""
    card = source / "README.md" if source else None
    text = card.read_text(encoding="utf-8") if card and card.is_file() else ""
    found = text.find(_MEASURED)
    return text[found:].strip() if found >= 0 else "Its numbers are in the `metrics/` of the run that made it."
