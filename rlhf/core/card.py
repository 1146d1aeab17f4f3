"""Write model cards in the hub's form: a README.md with YAML front matter beside every saved model.

A stage writes the card from what it knows itself: its parameters and its metrics. What is measured later (the
evaluation) is on the cards that the report writes. Cards hold neither a time nor an absolute path, so equal models have
equal cards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import rounded, write_text
from rlhf.core.text import markdown_cell

CARD = "README.md"
NONE = "none"
ENDS = ("_low", "_high")
HEADLINES = (  # front matter's metrics, where the card has them
    "eval_gold_winrate", "eval_rm_winrate", "eval_referee_winrate", "eval_kl", "reward_accuracy", "reward_ece",
    "reward_referee_accuracy", "base_perplexity", "sft_perplexity_after", "ppo_score_final", "ppo_kl_final",
)  # fmt: skip

_ADAPTER = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```"""
_WHOLE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```"""
_REWARD = """With the code of the project that made it (it refuses weights that it was not fitted on):

```python
from pathlib import Path
from rlhf.models.reward.scoring import load_reward

reward = load_reward(Path("{folder}"), base=Path("{base}"), sft=Path("artifacts/sft"))
```"""


@dataclass(frozen=True, slots=True)
class Kind:
    """The texts about one sort of model."""

    title: str
    what: str
    tags: tuple[str, ...]
    load: str = _ADAPTER
    provenance: str = ""  # the stage whose provenance has it; empty: the model's own name
    measured: str = ""  # what the stage's metrics of it begin with; empty: all of them


_ENCODER_REFEREE = """With the code of the project that made it (the encoder lies in its folder encoder/):

```python
from pathlib import Path
from rlhf.models.reward.encoder_referee import EncoderReferee

referee = EncoderReferee.load(Path("{folder}"))
referee.score_texts(["Where is Paris?"], ["In France."], batch_tokens=8192)
```"""
ENCODER_REFEREE = Kind("Referee", "A scalar head on what a frozen sentence encoder says of a prompt and a reply, "
                       "fitted to preference pairs of prompts that the reward model never saw. It judges policies that "
                       "are optimised against that model, and shares no backbone with it.", ("reward-model", "judge"),
                       load=_ENCODER_REFEREE, provenance="reward", measured="reward_referee_")  # fmt: skip
KINDS = {
    "base": Kind("Base model", "The model that everything else of the run stands on, unchanged by any of it: "
                 "pretrained from scratch, or a copy, as `base.source` says below.", ("base",), load=_WHOLE),
    "referee": Kind("Referee", "A second scalar head on the fine-tuned policy's hidden states, "
                           "fitted to preference pairs of prompts that the first never saw. It judges policies that "
                           "are optimised against the first.", ("reward-model", "judge"),
                           load=_REWARD, provenance="reward", measured="reward_referee_"),
    "sft": Kind("Supervised fine-tuned policy", "A LoRA adapter, fine-tuned on the chosen replies of preference pairs; "
                "prompts are read, not learnt, and the base model is frozen.", ("sft", "lora")),
    "reward": Kind("Reward model", "A scalar head on mean or last hidden states of the fine-tuned policy, fitted to "
                   "preference pairs with the Bradley-Terry loss; scores have mean 0 and standard deviation 1 on the "
                   "fine-tuned policy's own replies.", ("reward-model",), load=_REWARD),
    "ppo": Kind("Policy aligned by PPO", "A LoRA adapter, optimised by proximal policy optimisation against a reward "
                "model, with a KL penalty that keeps it near the fine-tuned policy.", ("ppo", "rlhf", "lora")),
}  # fmt: skip


def kind_of(stage: str) -> Kind:
    """Find the kind of a stage's model; any other name is a method that trains an adapter on the same pairs."""
    what = f"A LoRA adapter trained by the method {stage} on the same preference pairs and base model as PPO."
    return KINDS.get(stage) or Kind(f"Policy aligned by {stage}", what, (stage, "lora"), provenance=f"offline_{stage}")


def handed_on(stage: str, known: Mapping[str, object]) -> str | None:
    """Name the method whose policy a stage handed on in place of its own (`ppo.fallback`), if it did."""
    other = known.get(f"{stage}_fallback", NONE)
    return None if other == NONE else str(other)


def _in_place_of(other: str, known: Mapping[str, object]) -> Kind:
    what = (
        f"A guard stopped PPO ({known.get('ppo_stop_reason')}: {known.get('ppo_stop_detail')}), and this is the policy "
        f"of {other.upper()}, handed on in place of its own (`ppo.fallback`). What is measured below as `ppo_` is of "
        "the run that was stopped."
    )
    return Kind(f"Policy aligned by {other.upper()}, in place of PPO's", what, (other, "lora"))


def write_card(folder: Path, *, stage: str, params: Mapping[str, object], metrics: Mapping[str, object]) -> None:
    """Write `folder`/README.md from what the stage knows; arguments as for `model_card`."""
    begins = kind_of(stage).measured
    about = {name: value for name, value in metrics.items() if name.startswith(begins)}
    write_text(folder / CARD, model_card(folder=folder.as_posix(), stage=stage, params=params, metrics=about))


def model_card(
    *,
    folder: str,
    stage: str,
    params: Mapping[str, object],
    metrics: Mapping[str, object],
    base: str | None = None,
    dataset: str | None = None,
    licence: str | None = None,
) -> str:
    """Format the card's text.

    `params` are the sections that made the model, `metrics` what is known of it (ends of intervals beside their
    means). `base` is the base model's name on the hub and `dataset` the data's, `licence` an SPDX identifier; what is
    None is left out rather than guessed.
    """
    known = {name: value for name, value in metrics.items() if value is not None}
    own = ENCODER_REFEREE if stage == "referee" and "reward_referee_encoder" in known else kind_of(stage)
    kind = own if (other := handed_on(stage, known)) is None else _in_place_of(other, known)
    load = kind.load.format(base=base or "artifacts/base", folder=folder)
    at = base or "the folder `artifacts/base` of the run that made it"
    on = "" if kind.load in (_WHOLE, _ENCODER_REFEREE) else f" Base model: {at}."
    where = f"provenance/{kind.provenance or stage}.json"
    parts = [
        f"---\n{_front(stage, kind, known, base=base, dataset=dataset, licence=licence)}\n---",
        f"# {kind.title}",
        f"{kind.what}{on} The hashes of everything it was made from are in `{where}`.",
        f"## Loading it\n\n{load}",
        f"## Measured\n\nIn brackets the 95 % interval.\n\n{_table('measure', _measured(known))}",
        f"## Made with\n\n{_table('parameter', _flat(params))}",
        "## Limits\n\nIt knows what it and its base model were trained on, and nothing was checked beyond the "
        "numbers above. A reward model's score is what was optimised, not a measure of quality.",
    ]
    return "\n\n".join(parts) + "\n"


def _front(
    stage: str, kind: Kind, known: Mapping[str, object], *, base: str | None, dataset: str | None, licence: str | None
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    numbers = {name: value for name in HEADLINES if isinstance(value := known.get(name), int | float)}
    task = "text-classification" if kind.load in (_REWARD, _ENCODER_REFEREE) else "text-generation"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset or "preferences",
            dataset_name="held-out prompts of the run",
            metric_type=name,
            metric_value=rounded(value),
        )
        for name, value in numbers.items()
    ]
    data = ModelCardData(
        base_model=base,
        library_name={_ADAPTER: "peft", _WHOLE: "transformers"}.get(kind.load),
        license=licence,
        datasets=[dataset] if dataset else None,
        pipeline_tag=task,
        tags=list(kind.tags),
        model_name=stage if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml()).rstrip()


def _measured(known: Mapping[str, object]) -> dict[str, str]:
    """Format means with their intervals behind them."""
    shown = {}
    for name, value in known.items():
        if name.endswith(ENDS) or isinstance(value, Mapping | list):
            continue
        ends = [known.get(name + end) for end in ENDS]
        shown[name] = number(value) + (f" ({number(ends[0])} to {number(ends[1])})" if None not in ends else "")
    return shown


def number(value: object) -> str:
    """Format a number with four significant digits; integers and texts as they are."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(params: Mapping[str, object], key: str = "") -> dict[str, str]:
    """Flatten nested parameters to dotted names and their values."""
    rows: dict[str, str] = {}
    for name, value in params.items():
        dotted = f"{key}{name}"
        rows |= _flat(value, f"{dotted}.") if isinstance(value, Mapping) else {dotted: number(value)}
    return rows


def _table(head: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {head} | value |", "|---|---|"]
    return "\n".join(lines + [f"| `{name}` | {markdown_cell(value)} |" for name, value in sorted(rows.items())])
