"""Export any reward model as two standard parts, a backbone and a head, with the lines of torch that join them.

For reward models that are no sequence classifier of plain transformers: mean or attention pooling, or several heads.
The lines are in the README.md beside the parts, and are run before anything is kept.
"""

import re
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from rlhf.core.artifacts import save_tensors, write_text
from rlhf.core.errors import UserError
from rlhf.export.card import parts_card
from rlhf.export.causal import keep_date, merge
from rlhf.export.destination import export_dir
from rlhf.export.verify import must_agree
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import Scorer
from rlhf.models.text.chat_mark import end_id, is_chat
from rlhf.models.text.tokens import CHAT_ANCHORS, prepends_space

_CODE = '''\
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}/backbone")
backbone = AutoModel.from_pretrained("{folder}/backbone", dtype=torch.float32).eval()
head = load_file("{folder}/head.safetensors")


@torch.no_grad()
def score(prompt, response):
    """As in the preference data: "\\\\n\\\\nHuman: ...\\\\n\\\\nAssistant:" and " ...", which ended by itself."""
    ids = tokenizer(prompt{alone})["input_ids"]
{reply}
    states = backbone(torch.tensor([ids + reply])).last_hidden_state[0]{over}
    members = head["weight"] @ {pooled} + head["bias"]
    mean, std = head["normalisation"].tolist()
    return ({combined} - mean) / std
'''
_REPLY = '    reply = tokenizer(response, add_special_tokens=False)["input_ids"] + [{end}]'
# These tokenizers put a space before any text; a response continues one.
_ANCHORED = """\
    reply = tokenizer(response, add_special_tokens=False)["input_ids"]
    for before in {anchors}:
        texts = (before, before + response)
        start, both = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
        if both[: len(start)] == start:
            reply = both[len(start) :]
            break
    reply = reply + [{end}]"""
_POOLED = {
    "mean": "states.mean(0)",
    "last": "states[-1]",
    "attention": '((states @ head["query"]).softmax(0) @ states)',
}
_TEXTS = (
    ("\n\nHuman: Is it late?\n\nAssistant:", " Yes, it is."),
    ("\n\nHuman: Is it late?\n\nAssistant: No.\n\nHuman: And now?\n\nAssistant:", " Not yet. Ask again."),
)


@torch.no_grad()
def export_parts(base: Path, sft: Path, reward: Path, to: Path) -> None:
    """Write backbone/ (merged decoder and tokenizer), head.safetensors and a README.md that says how to score.

    Raises:
        UserError: something is missing, the reward model is of another backbone, or `to` is taken.
    """
    scorer = Scorer.load(base, sft, reward)
    ours = torch.tensor(scorer.score_texts([p for p, _ in _TEXTS], [r for _, r in _TEXTS]))
    with export_dir(to, about={"model": "reward", "kind": "reward-parts"}, inputs=[base, sft, reward]) as folder:
        tokenizer, model = scorer.backbone.tokenizer, scorer.reward
        end = end_id(tokenizer) if is_chat(tokenizer) else None
        code = scoring_code(model, anchored=prepends_space(tokenizer), end=end)
        cast(PreTrainedModel, merge(scorer.backbone, scorer.adapter).base_model).save_pretrained(folder / "backbone")
        tokenizer.save_pretrained(folder / "backbone")
        keep_date(folder / "backbone")
        tensors = {"weight": model.line.weight, "bias": model.line.bias}
        tensors |= {} if model.query is None else {"query": model.query}
        normalisation = torch.tensor([model.mean, model.std], dtype=torch.float64)
        save_tensors(folder / "head.safetensors", {**tensors, "normalisation": normalisation})
        write_text(folder / "README.md", parts_card(reward, code.replace("{folder}", ".")))
        names: dict[str, Any] = {}
        exec(code.replace("{folder}", folder.as_posix()), names)  # noqa: S102 - our own lines, run before we hand them on
        score = names["score"]
        must_agree(f"{to}", torch.tensor([float(score(p, r)) for p, r in _TEXTS]), ours)


def scoring_code(model: RewardModel, *, anchored: bool, end: int | None = None) -> str:
    """Write the lines for this pooling and these heads; `{folder}` stands for the folder of the parts. `end`: the token
    that ends a reply where a chat template writes the prompts; None for EOS, and prompts that may need a BOS."""
    if not model.is_plain:
        raise UserError(
            "reward model: no export for reward.logprobs, reward.head_units or reward.length_correction; load it with "
            "rlhf.models.reward.scoring.Scorer, or fit one without them"
        )
    weight = model.ensemble.uncertainty_weight
    combined = {
        "mean": "float(members.mean())",
        "worst": "float(members.min())",
        "uncertainty": f"float(members.mean() - {weight!r} * members.var(correction=0))",
    }
    if model.pooling not in _POOLED or model.ensemble.aggregate not in combined:
        raise UserError(f"reward model: no export for pooling {model.pooling} with {model.ensemble.aggregate}")
    filled = {
        "alone": "" if end is None else ", add_special_tokens=False",
        "reply": _ANCHORED if anchored else _REPLY,
        "over": "[len(ids) :]" if model.pool_over == "response" else "",
        "pooled": _POOLED[model.pooling],
        "combined": combined[model.ensemble.aggregate],
    }
    text = re.sub(r"\{(alone|reply|over|pooled|combined)\}", lambda match: filled[match[1]], _CODE)
    text = text.replace("{anchors}", repr((":",) if end is None else CHAT_ANCHORS))
    return text.replace("{end}", "tokenizer.eos_token_id" if end is None else str(end))
