"""The `ppo` stage from artifacts on disk to what it writes, and its errors before any work."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.core.artifacts import load_tensors, read_json, read_jsonl, sha256_tree, write_json
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.text.tokens import Episodes
from rlhf.ppo.actors import load_actors
from rlhf.ppo.reward_sources import Scorable
from rlhf.ppo.run import run_ppo
from tests.model_fixtures import make_adapter
from tests.ppo import disk
from tests.ppo.vllm_server import VllmServer
from tests.ppo.worlds import make_params, make_runtime


@pytest.fixture
def root(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_run_writes_everything_and_changes_no_input(root: Path) -> None:
    layout = Layout()
    inputs = [layout.base, layout.sft, layout.reward, layout.pairs]
    before = [sha256_tree(path) for path in inputs]
    disk.run(root, make_params(missing_eos="cap", value_init="reward", logged_episodes=3), root / "checkpoints")
    assert [sha256_tree(path) for path in inputs] == before
    metrics = read_json(layout.metrics("ppo"))
    assert metrics["ppo_stop_reason"] == "completed"
    assert metrics["ppo_prompts"] == 6
    assert all(name.startswith("ppo_") for name in metrics)
    episodes = read_jsonl(layout.rollouts)
    assert [row["iteration"] for row in episodes] == [i for i in range(4) for _ in range(3)]
    assert set(episodes[0]) == {"iteration", "prompt", "response", "ended", "score", "kl"}
    assert all(row["kl"] == pytest.approx(0, abs=1e-4) for row in episodes[:3])
    assert not any((root / "checkpoints").iterdir())


def test_a_run_sampled_by_a_server_says_so_and_leaves_nothing_there(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    versions: dict[str, str] = {}
    layout = Layout()
    with VllmServer(layout.base.resolve(), merged=True) as server:
        params = make_params(sampler="vllm", sampler_url=server.url, iterations=2, response_tokens=4)
        checkpoints = Checkpoints(root / "checkpoints", every_s=1e9, every_steps=0)
        run_ppo(layout, params, make_runtime(), checkpoints, versions)
        assert server.log.count("reload") == 3  # SFT's, and after each of two updates
    assert versions == {"vllm": "0.32.0", "vllm_weights": "merged in float32"}
    said = capsys.readouterr().err
    assert "vLLM 0.32.0" in said
    assert "bytes again are not promised" in said


def test_the_policy_loads_with_plain_peft_and_is_not_merged(root: Path) -> None:
    disk.run(root, make_params(lr=1e-2, iterations=2), root / "checkpoints")
    layout = Layout()
    base = AutoModelForCausalLM.from_pretrained(layout.base)
    untouched = base.state_dict()["transformer.h.0.attn.c_attn.weight"].clone()
    policy = PeftModel.from_pretrained(base, str(layout.ppo)).eval()
    assert (
        policy.peft_config["default"].base_model_name_or_path
        == json.loads((layout.sft / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    inner = policy.get_base_model().transformer.h[0].attn.c_attn
    assert torch.equal(inner.base_layer.weight, untouched)
    sft = load_tensors(layout.sft / "adapter_model.safetensors")
    ppo = load_tensors(layout.ppo / "adapter_model.safetensors")
    assert sft.keys() == ppo.keys()
    assert all(not torch.equal(sft[name], ppo[name]) for name in sft)
    assert load_tensors(layout.ppo / "value_head.safetensors")["linear.weight"].shape == (1, 32)
    assert AutoTokenizer.from_pretrained(layout.ppo)("hello")["input_ids"]


def test_two_runs_are_the_same_bytes_and_another_seed_is_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = make_params(iterations=2)
    disk.run(root, short, root / "checkpoints")
    first = disk.outputs(root)
    disk.run(root, short, root / "checkpoints")
    assert disk.outputs(root) == first
    assert len(first) > 5
    monkeypatch.setattr(disk, "RUNTIME_SEED", 4)
    disk.run(root, short, root / "checkpoints")
    assert disk.outputs(root)["plots/ppo.csv"] != first["plots/ppo.csv"]


def test_the_value_head_may_start_as_the_reward_head(root: Path) -> None:
    disk.run(root, make_params(value_init="reward", lr=0.0, value_lr=0.0, iterations=1), root / "checkpoints")
    head = load_tensors(Path("artifacts/reward/head.safetensors"))
    found = load_tensors(Path("artifacts/ppo/value_head.safetensors"))
    torch.testing.assert_close(found["linear.weight"], head["weight"] / 0.5)
    torch.testing.assert_close(found["linear.bias"], (head["bias"] - 0.1) / 0.5)


def test_a_prompt_that_does_not_fit_is_named_before_any_work(root: Path) -> None:
    path = Path("artifacts/prepare/pairs/train.jsonl")
    with path.open("a") as file:
        file.write(json.dumps({"id": "train-00099", "prompt": "long " * 200}) + "\n")
    with pytest.raises(UserError, match=r"prompt train-00099: .* tokens and ppo\.response_tokens 8 exceed"):
        disk.run(root, make_params(), root / "checkpoints")
    assert not Path("artifacts/ppo").exists()
    assert not Path("plots").exists()
    disk.run(root, make_params(max_prompt_tokens=60, iterations=1), root / "checkpoints")
    assert read_json(Path("metrics/ppo.json"))["ppo_prompts_dropped"] == 1


@pytest.mark.parametrize("missing", ["artifacts/reward", "artifacts/sft", "artifacts/base"])
def test_a_missing_input_is_one_line(root: Path, missing: str) -> None:
    shutil.rmtree(missing)
    params = make_params()
    with pytest.raises(UserError, match=missing):
        from rlhf.core.checkpoint import Checkpoints
        from rlhf.ppo.run import run_ppo
        from tests.ppo.worlds import make_runtime

        run_ppo(Layout(), params, make_runtime(), Checkpoints(root / "c", every_s=1.0, every_steps=0))


def test_a_reward_model_of_another_backbone_is_refused(root: Path) -> None:
    path = Path("artifacts/reward/reward.json")
    path.write_text(path.read_text().replace('"artifacts/sft"', '"artifacts/other"'))
    with pytest.raises(UserError, match=r"reward\.json: adapter is 'artifacts/other'"):
        disk.run(root, make_params(), root / "checkpoints")


def test_validation_prompts_come_from_the_validation_split(root: Path) -> None:
    disk.run(root, make_params(validation_every=1, validation_prompts=3, iterations=1), root / "checkpoints")
    assert isinstance(read_json(Path("metrics/ppo.json"))["ppo_validation_reward_best"], float)


def test_a_reward_model_with_a_backbone_of_its_own(root: Path) -> None:
    """Its scores are those of its own adapter, read by plain peft and added up by hand."""
    layout = Layout()
    own = layout.reward / "adapter"
    make_adapter(layout.base, own, seed=77)
    head = load_tensors(layout.reward / "head.safetensors")
    about = read_json(layout.reward / "reward.json") | {"adapter": own.as_posix(), "pooling": "last"}
    write_json(layout.reward / "reward.json", about)
    with pytest.raises(UserError, match=r"ppo\.value_init: found 'reward'.*allowed: zero"):
        disk.run(root, make_params(value_init="reward"), root / "checkpoints")
    actors = load_actors(
        base=layout.base, sft=layout.sft, reward=layout.reward, value_init="zero", engine="fast",
        conformance=layout.conformance,
        runtime=make_runtime(0),
    )  # fmt: skip
    prompts, responses = [[5, 9, 11], [7, 3]], [[8, 2], [30, 31, 32]]
    episodes = Episodes.of(prompts, responses, pad_id=actors.backbone.pad_id, device="cpu")
    reference = actors.backbone.forward(episodes, adapter="sft", temperature=1.0)
    batch = Scorable(["", ""], ["", ""], torch.tensor([True, True]), episodes, reference)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(layout.base), str(own)).eval()
    mean, std = head["normalisation"].tolist()
    expected = []
    for prompt, response in zip(prompts, responses, strict=True):
        with torch.no_grad():
            hidden = plain.get_base_model().transformer(torch.tensor([prompt + response])).last_hidden_state[0, -1]
        expected.append((float(hidden @ head["weight"][0] + head["bias"][0]) - mean) / std)
    assert actors.source.score(batch).tolist() == pytest.approx(expected, abs=1e-4)
    disk.run(root, make_params(iterations=1), root / "checkpoints")
    assert read_json(layout.metrics("ppo"))["ppo_stop_reason"] == "completed"


SHOUT = """
def shout(prompts, responses):
    return [float(len(response)) for response in responses]

def silent(prompts, responses):
    return []
"""


def test_a_function_may_give_the_scores(root: Path) -> None:
    folder = root / "rewards"
    folder.mkdir()
    (folder / "shout.py").write_text(SHOUT)
    settings: dict[str, object] = {"source": "function", "function": "shout:shout", "score_clip": 0, "iterations": 2}
    params = make_params(**settings, function_path=folder.as_posix())
    disk.run(root, params, root / "checkpoints")
    rows = [json.loads(line) for line in Path("artifacts/rollouts/ppo.jsonl").read_text().splitlines()]
    assert rows
    assert [row["score"] for row in rows] == [float(len(row["response"])) for row in rows]
    assert sorted(path.name for path in folder.iterdir()) == ["shout.py"]  # an input stays as it is
    first = disk.outputs(root)
    disk.run(root, params, root / "checkpoints")
    assert disk.outputs(root) == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"function": "shout:silent"}, r"reward function shout:silent: returned 0 scores for \d+ responses"),
        ({"function": "shout:whisper"}, r"reward function shout:whisper: shout has no function 'whisper'"),
        ({"function": ""}, r"ppo.function must be a module:function in the folder ppo.function_path \(found ''"),
        ({"function": "shout:shout", "function_path": "nowhere"}, r"found 'shout:shout' and 'nowhere'"),
    ],
)
def test_a_function_that_gives_none_is_one_line(root: Path, changes: dict[str, str], message: str) -> None:
    (root / "rewards").mkdir()
    (root / "rewards" / "shout.py").write_text(SHOUT)
    params = make_params(**{"source": "function", "function_path": "rewards", **changes})
    with pytest.raises(UserError, match=message) as caught:
        disk.run(root, params, root / "checkpoints")
    assert "\n" not in str(caught.value)
    assert not Path("artifacts/ppo").exists()
