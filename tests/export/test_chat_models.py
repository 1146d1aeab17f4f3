"""Models that answer conversations: what is exported answers in plain transformers as the run's own sampler does."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from rlhf.chat.dialogue import Dialogue, Settings
from rlhf.chat.load import load_cast
from rlhf.core.conversation import Turn
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.export.run import Order, fulfil
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample, sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.scoring import Scorer
from rlhf.models.text.chat_mark import write_note
from rlhf.models.text.chat_template import ChatTemplate
from rlhf.models.text.spoken import turn_template
from tests.chat_families import make_chat_model, messages
from tests.export.worlds import World

RUNTIME = RuntimeParams(device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=60.0, checkpoint_steps=0)
LONGEST = 12
ASKED = [
    [("user", "Why is the sky blue?")],
    [("user", "Hi"), ("assistant", "Hello."), ("user", "What does <|im_end|> mean?")],
    [("system", "Be brief."), ("user", "Name a colour.")],
]


@pytest.fixture(scope="module", params=["qwen2.5", "llama2"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run whose base ends a reply by a token that is not EOS, or by EOS; the SFT policy ends its first reply."""
    root = tmp_path_factory.mktemp("chat") / request.param
    base = make_chat_model(root.parent / f"base-{request.param}", request.param)
    tokenizer = AutoTokenizer.from_pretrained(base)
    ChatTemplate.of(tokenizer, "base")
    write_note(tokenizer, base)
    world = World.make(root, base)
    _end_after(world, 5)
    world.fit(pooling="last", pool_over="sequence")
    return world


def _end_after(world: World, count: int) -> None:
    """Let the SFT policy say the end token after `count` tokens, and not before, by the head's row of that token."""
    backbone, chat = loaded(world)
    (sample,) = ours(world, backbone, chat, ASKED[:1])
    rows = tokens(world, ASKED[0])
    model = world.adapted(world.layout.sft)
    with torch.no_grad():
        ids = torch.tensor([[*rows, *sample.response_ids[:count]]])
        output = model(ids, output_hidden_states=True)
    states = output.hidden_states[-1][0, len(rows) - 1 :]
    wanted = torch.tensor([-5.0] * count + [1.5 * float(output.logits[0, -1].max())])
    file = world.layout.base.resolve() / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"][backbone.eos_id] = torch.linalg.pinv(states) @ wanted
    save_file(weights, file, metadata={"format": "pt"})


def loaded(world: World) -> tuple[Backbone, ChatTemplate]:
    backbone = Backbone.load(world.layout.base, {"sft": world.layout.sft}, dtype=torch.float32, device="cpu")
    return backbone, ChatTemplate.of(backbone.tokenizer, "base")


def ours(world: World, backbone: Backbone, chat: ChatTemplate, said: list[list[tuple[str, str]]]) -> list[Sample]:
    prompts = [chat.prompt([Turn(role, content) for role, content in one]) for one in said]
    return sample_texts(backbone, prompts, Sampling(LONGEST, 1.0), adapter="sft", stream=None, batch_size=8)


def tokens(world: World, said: list[tuple[str, str]]) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(world.layout.base)
    found: list[int] = tokenizer.apply_chat_template(messages(said), add_generation_prompt=True, return_dict=False)
    return found


def test_the_exported_policy_answers_as_the_sampler_does(world: World, tmp_path: Path) -> None:
    fulfil(world.layout, Order("sft", "merged", tmp_path / "out"))
    shutil.move(str(tmp_path / "out"), str(tmp_path / "elsewhere"))
    answer = pipeline("text-generation", model=str(tmp_path / "elsewhere"), device="cpu")
    asked = [one for one in ASKED if one[-1][1].find("<|im_end|>") < 0]  # the pipeline takes that for a real token
    backbone, chat = loaded(world)
    samples = ours(world, backbone, chat, asked)
    assert samples[0].ended
    assert len(samples[0].response_ids) == 6
    for said, sample in zip(asked, samples, strict=True):
        found: Any = answer(messages(said), max_new_tokens=LONGEST, do_sample=False, return_tensors=True)
        ids = found[0]["generated_token_ids"]
        prompt = tokens(world, said)
        assert list(ids[: len(prompt)]) == prompt
        assert list(ids[len(prompt) :]) == list(sample.response_ids)
    told: Any = answer(messages(asked[0]), max_new_tokens=LONGEST, do_sample=False)
    last = told[0]["generated_text"][-1]
    assert (last["role"], last["content"].strip()) == ("assistant", samples[0].response.strip())


def test_the_adapter_goes_with_its_template(world: World, tmp_path: Path) -> None:
    fulfil(world.layout, Order("sft", "adapter", tmp_path / "out"))
    exported = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert exported.apply_chat_template(messages(ASKED[1]), tokenize=False) == AutoTokenizer.from_pretrained(
        world.layout.base
    ).apply_chat_template(messages(ASKED[1]), tokenize=False)


def test_the_exported_reward_model_scores_a_conversation(world: World, tmp_path: Path) -> None:
    """The classifier on the library's ids, and the parts on the prompt's text, give the run's own score."""
    scorer = Scorer.load(world.layout.base, world.layout.sft, world.layout.reward)
    chat = ChatTemplate.of(scorer.backbone.tokenizer, "base")
    turns = [Turn(role, content) for role, content in ASKED[0]]
    prompt, reply = chat.prompt(turns), chat.reply(turns, "Because.")
    (score,) = scorer.score_texts([prompt], [reply])
    fulfil(world.layout, Order("reward", "reward", tmp_path / "classifier"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "classifier")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier").eval()
    ids = [*tokens(world, ASKED[0]), *scorer.backbone.tokenizer(reply, add_special_tokens=False)["input_ids"]]
    if world.layout.root.name == "llama2":  # encoded alone, the reply would begin with a space of the tokenizer's
        ids = tokenizer(prompt + reply, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logit = float(model(torch.tensor([[*ids, scorer.backbone.eos_id]])).logits[0, 0])
    assert logit + model.config.reward_offset == pytest.approx(score, abs=1e-3)
    fulfil(world.layout, Order("reward", "reward-parts", tmp_path / "parts"))
    code = (tmp_path / "parts" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace('"./', f'"{tmp_path / "parts"}/'), names)
    assert float(names["score"](prompt, reply)) == pytest.approx(score, abs=1e-3)


def test_a_chat_of_two_turns_is_what_the_template_makes_of_it(world: World) -> None:
    cast = load_cast(world.layout, ["sft"], Runtime.start(RUNTIME, 0))
    template = turn_template({"source": "files", "format": "pairs", "template": "chat"}, world.layout.base)
    talk = Dialogue(cast, Settings(LONGEST, 1.0, 3), template)
    said: list[tuple[str, str]] = []
    for text in ("Why is the sky blue?", "And at night?"):
        said.append(("user", text))
        reply = "".join("".join(pieces) for _, pieces in talk.ask(text))
        expected = tokens(world, said)
        assert cast.backbone.tokenizer(talk.last["sft"].prompt, add_special_tokens=False)["input_ids"] == expected
        said.append(("assistant", talk.turns["sft"][-1].content))
        assert said[-1][1].strip() == reply.strip()
    assert talk.conversation("sft").startswith("User: Why is the sky blue?\n\nAssistant: ")
    assert "\n\nUser: And at night?" in talk.conversation("sft")


def test_the_fast_engine_stops_at_the_same_token(world: World) -> None:
    from rlhf.models.fast.engine import load_backbone

    backbone, chat = loaded(world)
    fast = load_backbone(world.layout.base, {"sft": world.layout.sft}, engine="fast", dtype=torch.float32, device="cpu")
    assert type(fast).__name__ == "FastBackbone"
    assert [one.response_ids for one in ours(world, fast, chat, ASKED)] == [
        one.response_ids for one in ours(world, backbone, chat, ASKED)
    ]


def test_plain_transformers_stops_by_the_exported_config(world: World, tmp_path: Path) -> None:
    fulfil(world.layout, Order("sft", "merged", tmp_path / "out"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    backbone, _ = loaded(world)
    ends = model.generation_config.eos_token_id
    assert backbone.eos_id in (ends if isinstance(ends, list) else [ends])
