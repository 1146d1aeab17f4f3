"""Small runs on disk, and what their models say by other means: plain transformers and peft, a row at a time."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.core.layout import Layout
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.ensemble import SINGLE, Ensemble
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import REWARD, save_reward
from tests.model_fixtures import make_adapter

TEXTS = (
    ("\n\nHuman: What is the capital?\n\nAssistant:", " Paris."),
    ("\n\nHuman: Why?\n\nAssistant: Because.\n\nHuman: And how?\n\nAssistant:", " Put the egg in water."),
)

# Run with -I in an empty folder: nothing of the project can be imported there.
FRESH = """
import json, os, re, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
jobs, found = json.load(open("jobs.json")), []
for job in jobs:
    folder = job["folder"]
    with torch.no_grad():
        if job["kind"] in ("adapter", "merged"):
            where = job["base"] if job["kind"] == "adapter" else folder
            model = AutoModelForCausalLM.from_pretrained(where)
            if job["kind"] == "adapter":
                model = PeftModel.from_pretrained(model, folder)
            found.append([model.eval()(torch.tensor([ids])).logits[0].tolist() for ids in job["ids"]])
        elif job["kind"] == "reward":
            model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder)
            assert model.config.num_labels == 1
            if job["ids"] is None:
                texts = [p + r + tokenizer.eos_token for p, r in job["texts"]]
                batch = tokenizer(texts, padding=True, return_tensors="pt")
            else:
                batch = tokenizer.pad({"input_ids": job["ids"]}, return_tensors="pt")
            logits = model(**batch).logits[:, 0]
            assert model.config.reward_offset == 0
            found.append(logits.tolist())
        else:
            os.chdir(folder)
            names = {}
            exec(re.search("```python\\n(.*?)```", open("README.md").read(), re.S)[1], names)
            found.append([names["score"](p, r) for p, r in job["texts"]])
assert not [name for name in sys.modules if name.split(".")[0] in ("rlhf", "stages")]
print(json.dumps(found))
"""


def in_a_fresh_process(jobs: list[dict[str, Any]], folder: Path) -> list[Any]:
    folder.mkdir()
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run([sys.executable, "-I", "-c", FRESH], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class World:
    """A run with base, sft, ppo, one alternative and, after `fit`, a reward model."""

    layout: Layout

    @classmethod
    def make(cls, root: Path, base: Path) -> "World":
        layout = Layout(root)
        layout.artifacts.mkdir(parents=True)
        layout.base.symlink_to(base)
        for seed, folder in enumerate((layout.sft, layout.ppo, layout.artifacts / "offline" / "dpo")):
            make_adapter(layout.base, folder, seed=seed)
            AutoTokenizer.from_pretrained(layout.base).save_pretrained(folder)
        return cls(layout)

    def fit(self, *, tuned: bool = False, ensemble: Ensemble = SINGLE, **pooling: Any) -> RewardModel:
        """Save a reward model with a random head."""
        at = self.layout
        backbone = Backbone.load(at.base, {REWARD: at.ppo}, dtype=torch.float32, device="cpu")
        model = RewardModel(backbone.hidden_size, backbone_adapter="a", mean=0.7, std=1.9, ensemble=ensemble, **pooling)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        shutil.rmtree(at.reward, ignore_errors=True)  # or a tuned adapter of the one before would stay
        save_reward(model, at.reward, base=at.base, sft=at.sft, tuned=backbone if tuned else None)
        return model.requires_grad_(False)

    def adapted(self, adapter: Path) -> Any:
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.layout.base), adapter).eval()

    def ids(self, prompt: str, reply: str) -> tuple[list[int], list[int]]:
        """Of prompt and ended reply. GPT-2's tokenizer never merges across ": ", so the joined text gives them."""
        tokenizer = AutoTokenizer.from_pretrained(self.layout.base)
        ids = tokenizer(prompt)["input_ids"]
        if self.layout.root.name == "gpt2":
            joined = tokenizer(prompt + reply)["input_ids"]
            assert joined[: len(ids)] == ids
            return ids, [*joined[len(ids) :], tokenizer.eos_token_id]
        return ids, [*tokenizer(reply, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]

    @torch.no_grad()
    def scores(self, model: RewardModel, adapter: Path) -> list[float]:
        """Scores in plain Python over one row at a time."""
        found, decoder = [], self.adapted(adapter).get_base_model().base_model
        for prompt, reply in TEXTS:
            ids, answer = self.ids(prompt, reply)
            states = decoder(torch.tensor([ids + answer])).last_hidden_state[0].double()
            states = states[len(ids) :] if model.pool_over == "response" else states
            if model.pooling == "last":
                feature = states[-1]
            elif model.pooling == "mean":
                feature = states.sum(0) / len(states)
            else:
                weights = [float(torch.exp(model.query.double() @ state)) for state in states]
                feature = sum(w * s for w, s in zip(weights, states, strict=True)) / sum(weights)
            members = [float(w @ feature + b) for w, b in zip(model.head.weight.double(), model.head.bias, strict=True)]
            raw = min(members) if model.ensemble.aggregate == "worst" else sum(members) / len(members)
            found.append((raw - 0.7) / 1.9)
        return found
