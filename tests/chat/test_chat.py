"""What the chat says is what the sampler says, and its numbers are those of a plain forward pass."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoTokenizer

from rlhf.chat.dialogue import Dialogue, Settings
from rlhf.chat.load import load_cast
from rlhf.chat.streaming import ReplyStream
from rlhf.chat.terminal import answer, converse
from rlhf.core.errors import UserError
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.models.policy.sampling import sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.spoken import turn_template
from stages.chat import main
from tests.export.worlds import World

TEMPLATE = "\n\nHuman: {prompt}\n\nAssistant:"
RUNTIME = RuntimeParams(device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=60.0, checkpoint_steps=0)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = {"gpt2": "tiny_model_dir", "llama": "tiny_llama_dir"}[request.param]
    world = World.make(tmp_path_factory.mktemp("run") / request.param, request.getfixturevalue(folder))
    world.fit(pooling="mean", pool_over="response")
    return world


def dialogue(world: World, *names: str, longest: int = 6) -> Dialogue:
    cast = load_cast(world.layout, names, Runtime.start(RUNTIME, 0))
    return Dialogue(cast, Settings(longest, 0.9, 11), TEMPLATE)


def replies(talk: Dialogue, text: str) -> dict[str, str]:
    return {name: "".join(pieces) for name, pieces in talk.ask(text)}


def test_the_same_seed_gives_the_samplers_text(world: World) -> None:
    talk = dialogue(world)
    assert list(talk.cast.adapters) == ["base", "sft", "ppo", "offline/dpo"]
    first, second = replies(talk, "Why?"), replies(talk, " And then? ")
    for name, adapter in talk.cast.adapters.items():
        prompt = "\n\nHuman: Why?\n\nAssistant:"
        for turn, said in enumerate((first, second)):
            (sample,) = sample_texts(
                talk.cast.backbone, [prompt], adapter=adapter, sampling=Sampling(6, 0.9),
                stream=(11, "chat", turn), batch_size=1,
            )  # fmt: skip
            assert said[name] == sample.response
            prompt += sample.response + "\n\nHuman: And then?\n\nAssistant:"
    assert len(set(first.values())) > 1


def test_text_comes_token_by_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one token is drawn ahead of what is shown, and no piece is half a character."""
    backbone, drawn = dialogue(world, "sft").cast.backbone, []
    steps = backbone.steps

    def counted(*args: object, **kwargs: object) -> Iterator[object]:
        for step in steps(*args, **kwargs):  # type: ignore[arg-type]
            drawn.append(step)
            yield step

    monkeypatch.setattr(backbone, "steps", counted)
    stream = ReplyStream(backbone, "\n\nHuman: Why?\n\nAssistant:", "sft", Sampling(8, 1.0), (0, "x"))
    seen = [(piece, len(drawn)) for piece in stream]
    assert [count for _, count in seen][:3] == [1, 2, 3] or "�" in stream.sample.response
    assert "".join(piece for piece, _ in seen) == stream.sample.response


@torch.no_grad()
def test_reward_and_kl_by_a_plain_forward(world: World) -> None:
    at, talk = world.layout, dialogue(world, "ppo", "base", "sft")
    replies(talk, "Why?")
    found = talk.measured()
    tokenizer = AutoTokenizer.from_pretrained(at.base)
    prompt = tokenizer("\n\nHuman: Why?\n\nAssistant:")["input_ids"]
    sft = world.adapted(at.sft)
    plain = {"ppo": world.adapted(at.ppo), "sft": sft, "base": world.adapted(at.sft).unload()}
    model = talk.cast.scorer.reward  # type: ignore[union-attr]
    for name, one in found.items():
        reply = list(talk.last[name].response_ids)
        ids = torch.tensor([prompt + reply])
        states = sft.get_base_model().base_model(ids).last_hidden_state[0, len(prompt) :].double().mean(0)
        raw = float(model.head.weight.double()[0] @ states + model.head.bias[0])
        assert one.reward == pytest.approx((raw - 0.7) / 1.9, abs=1e-4)
        gaps = []
        for k, token in enumerate(reply):
            logs = [(m(ids).logits[0, len(prompt) + k - 1] / 0.9).log_softmax(-1)[token] for m in (plain[name], sft)]
            gaps.append(float(logs[0] - logs[1]))
        assert one.kl == pytest.approx(sum(gaps) / len(gaps), abs=1e-4)
        assert one.tokens == len(reply)
    assert found["sft"].kl == 0.0


def test_a_conversation(world: World) -> None:
    talk, said = dialogue(world, "sft", "ppo"), []
    lines = [
        "/score",
        "/history",
        "Why?",
        "/score",
        "/history",
        "/temperature 0",
        "/temperature 0.5",
        "/seed x",
        "/seed 9",
        "/policies",
    ]
    converse(talk, [*lines, "/reset", "/nonsense", "", "/help", "/quit", "never read"], said.append)
    text = "".join(said)
    assert "error: /score: nothing was said yet" in text
    assert "sft | reward " in text
    assert "error: /history: nothing was said yet" in text
    assert "--- ppo\nUser: Why?\n\nAssistant: " in text
    assert "error: /temperature: found '0'; allowed: a number above 0 and up to 10" in text
    assert "error: /seed: found 'x'; allowed: a whole number" in text
    assert "error: /nonsense: no such command" in text
    assert (talk.settings.temperature, talk.settings.seed, talk.histories) == (0.5, 9, {})


def test_old_turns_go_when_the_context_is_full(world: World) -> None:
    talk = dialogue(world, "sft", longest=40)
    for number in range(4):
        replies(talk, f"Question number {number}?")
    history = talk.histories["sft"]
    assert "number 3?" in history
    assert "number 0?" not in history
    assert history.startswith("\n\nHuman: Question number")
    with pytest.raises(UserError, match="leaves no room for 40 tokens in a context of 128"):
        replies(talk, "what " * 120)


def test_templates() -> None:
    data = {"source": "files", "format": "pairs", "prompt_template": "Q: {prompt} A:"}
    nowhere = Path("nowhere")
    assert turn_template(data, nowhere) == "Q: {prompt} A:"
    assert turn_template(data | {"format": "hh"}, nowhere) == TEMPLATE
    assert turn_template(data | {"source": "synthetic"}, nowhere) == TEMPLATE
    assert turn_template(data | {"template": "raw"}, nowhere) == "{prompt}"


def test_one_shot(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.chdir(world.layout.root)
    known = {
        "seed": 11, "ppo": {"response_tokens": 6, "temperature": 0.9}, "data": {"source": "synthetic"},
        "runtime": RUNTIME.model_dump(), "live": {"to": []},
    }  # fmt: skip
    Path("params.resolved.json").write_text(json.dumps(known))
    done = CliRunner().invoke(main, ["--policy", "ppo", "--policy", "sft", "--prompt", "Why?", "--score"])
    talk, said = dialogue(world, "ppo", "sft"), []
    answer(talk, "Why?", said.append)
    assert done.stdout.startswith("".join(said))
    assert "ppo | reward " in done.stdout
    for arguments, folder, match in (
        (
            ["--policy", "dpo"],
            world.layout.root,
            "error: policy 'dpo': not among this run's artifacts; found: base, sft",
        ),
        ([], tmp_path, "error: params.resolved.json: not found"),
    ):
        monkeypatch.chdir(folder)
        refused = CliRunner().invoke(main, [*arguments, "--prompt", "Why?"])
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert refused.stderr.startswith(match)
