"""Put one architecture through base and conformance, and see by other means whether what they say is so."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from rlhf.base.local import copy_model
from rlhf.conformance.run import run_conformance
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.models.fast.engine import load_checked
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.lora import write_adapter
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import Episodes
from studies.architectures.tiny import make_model

TOLERANCE = 1e-3  # nats
NOT_TRIED = "not tried"
_PROMPTS = ([17, 40, 9, 33, 250, 61, 7, 99, 120, 5, 64, 31], [21, 8], [90, 14, 77, 3, 56])
_RESPONSES = ([12, 45, 6, 70], [33, 101], [19, 88, 27])


@dataclass(frozen=True, slots=True)
class Result:
    """How one architecture ended. `wrong` is None, or what was accepted and is not so: it must never be set."""

    kind: str
    engine: str | None  # fast | plain; None where it was refused
    refused: str | None  # the line
    adapter: str | None  # engine with an adapter on every linear layer, the head's too; or why not
    gap: float | None  # nats between the engine and the model, measured here
    wrong: str | None = None

    def row(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def attempt(kind: str, folder: Path) -> Result:
    """Make a tiny model, run the stages' code on it, and measure what was accepted."""
    try:
        made = make_model(kind, folder / "source")
        with torch.no_grad():
            made.eval()(input_ids=torch.tensor([_PROMPTS[0]]))
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        return Result(kind, None, f"{NOT_TRIED}: no tiny model was made ({type(error).__name__}: {why})", None, None)
    layout, runtime = Layout(folder), cpu()
    try:
        copy_model(folder / "source", layout.base, dtype=torch.float32)
        metrics = run_conformance(layout, targets="auto", longest=60, runtime=runtime)
    except UserError as error:
        return Result(kind, None, str(error).replace(f"{folder}/", ""), None, None, _lines(error))
    engine = str(metrics["conformance_engine"])
    try:
        adapted = _everywhere(layout, folder / "adapter")
        backbone = load_checked(
            layout.base, {"policy": adapted}, engine="fast" if engine == "fast" else "plain", trainable=("policy",),
            dtype=torch.float32, device="cpu", decided=layout.conformance,
        )  # fmt: skip
        adapter, name = ("fast" if type(backbone) is not Backbone else "plain"), "policy"
    except UserError as error:
        bare = Backbone.load(layout.base, {}, dtype=torch.float32, device="cpu")
        gap, _ = measure(bare, layout.base, None)
        wrong = _lines(error) or (f"{gap:.2g} nats off" if not gap <= TOLERANCE else None)
        return Result(kind, engine, None, str(error).replace(f"{folder}/", ""), gap, wrong)
    gap, wrong = measure(backbone, layout.base, adapted, name)
    return Result(kind, engine, None, adapter, gap, wrong or moved(backbone, name))


def measure(backbone: Backbone, base: Path, adapter: Path | None, name: str | None = None) -> tuple[float, str | None]:
    """Compare a padded batch, scored and sampled greedily, with plain transformers and peft, each row by itself."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    model = model if adapter is None else PeftModel.from_pretrained(model, str(adapter)).eval()
    episodes = Episodes.of(_PROMPTS, _RESPONSES, pad_id=backbone.pad_id, device="cpu")
    gap = 0.0
    with torch.no_grad():
        ours = backbone.forward(episodes, adapter=name, temperature=1.0).logprobs
        made = backbone.generate(
            episodes.prompt_ids, episodes.prompt_mask, Sampling(6, 1.0), adapter=name, uniforms=None
        )
        for row, (prompt, response) in enumerate(zip(_PROMPTS, _RESPONSES, strict=True)):
            said = ours[row, : len(response)]
            gap = max(gap, float((said - _logprobs(model, prompt, response)).abs().max()))
            count = int(made.mask[row].sum())
            drawn = made.response_ids[row, :count].tolist()
            gap = max(gap, float((made.logprobs[row, :count] - _logprobs(model, prompt, drawn)).abs().max()))
    return gap, None if gap <= TOLERANCE else f"{gap:.2g} nats off"


def moved(backbone: Backbone, name: str) -> str | None:
    """Take a step down the gradient and look which of the adapter's tensors are where they were."""
    weights = backbone.parameters_of(name)
    before = {key: weight.detach().clone() for key, weight in weights.items()}
    optimiser = torch.optim.SGD(list(weights.values()), lr=1.0)
    episodes = Episodes.of(_PROMPTS, _RESPONSES, pad_id=backbone.pad_id, device="cpu")
    (-backbone.forward(episodes, adapter=name, temperature=1.0).logprobs.sum()).backward()
    optimiser.step()
    still = [key for key, weight in weights.items() if torch.equal(weight, before[key])]
    named = [key for key in still if (gradient := weights[key].grad) is not None and bool(gradient.any())]
    return f"{named[0]} does not move" if named else None


def _logprobs(model: nn.Module, prompt: list[int], response: list[int]) -> Tensor:
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
    table = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
    return torch.stack([table[step, token] for step, token in enumerate(response)])


@torch.no_grad()
def _everywhere(layout: Layout, folder: Path) -> Path:
    """Write an adapter of drawn weights on every linear layer: attention, MLP and head."""
    from peft import LoraConfig, get_peft_model

    model: Any = AutoModelForCausalLM.from_pretrained(layout.base, dtype=torch.float32)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    try:
        config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=linear)
        adapted = get_peft_model(model, config)
        draw = torch.Generator().manual_seed(3)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
        write_adapter(adapted, "default", folder)
    except Exception as error:
        raise UserError(f"peft: no adapter on every linear layer ({' '.join(str(error).split())[:200]})") from error
    return folder


def cpu() -> Runtime:
    """Make a process on the CPU in float32."""
    params = RuntimeParams(
        device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=60.0, checkpoint_steps=0
    )
    return Runtime.start(params, 0)


def _lines(error: UserError) -> str | None:
    return "the refusal is more than a line" if "\n" in str(error) else None
