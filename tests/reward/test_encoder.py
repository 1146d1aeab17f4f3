"""The reward stage with a referee on a sentence encoder, and what evaluate reads of it."""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from rlhf.core.artifacts import read_json, write_json, write_jsonl
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import Stopped, UserError
from rlhf.core.layout import Layout
from rlhf.evaluate.run import evaluate
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.encoder import SentenceEncoder
from rlhf.models.reward.encoder_referee import EncoderReferee
from rlhf.models.reward.referee import load_referee, save_referee
from rlhf.models.reward.scoring import save_reward
from rlhf.reward.encoder import encoder_features, on_encoder
from rlhf.reward.pairs import TextPair
from rlhf.reward.referee import divide, over_length_metrics
from rlhf.reward.train import TrainedReward
from tests.evaluate.conftest import TOPICS
from tests.evaluate.conftest import params as evaluation
from tests.model_fixtures import make_adapter
from tests.reward.conftest import keyword_pairs, write_pairs, write_split
from tests.reward.test_train import params
from tests.reward.test_train import train as train_any
from tests.sft.helpers import cpu

SCALED: list[list[float]] = []  # raw scores of the SFT samples that `trained` was put on a scale with
SHARE = {"referee_share": 0.4, "epochs": 60, "normalise_prompts": 8, "batch_tokens": 400}


def train(pairs: Path, base: Path, sft: Path, out: Path, encoder: Path | None, **changes: object) -> TrainedReward:
    return train_any(pairs, base, sft, out, encoder=encoder, **{**SHARE, **changes})


@pytest.fixture(scope="module")
def trained(
    tiny_model_dir: Path, sft_dir: Path, tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedReward:
    folder, original = tmp_path_factory.mktemp("trained"), EncoderReferee.score_samples

    def noted(self: EncoderReferee, samples: Sequence[Sample], *, batch_tokens: int) -> list[float]:
        SCALED.append(original(self, samples, batch_tokens=batch_tokens))
        return SCALED[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncoderReferee, "score_samples", noted)
        return train(write_pairs(folder), tiny_model_dir, sft_dir, folder / "out", tiny_encoder_dir)


def score(folder: Path, referee: EncoderReferee, pair: TextPair, reply: str) -> float:
    """The head's raw score of the definition, embeddings straight from transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text in (pair.prompt, reply):
        with torch.no_grad():
            mean = model(**tokenizer(text.strip(), return_tensors="pt")).last_hidden_state[0].double().mean(0)
        found.append(mean / mean.norm())
    u, v = found
    return float(referee.head.line.weight.double()[0] @ torch.cat((v, u * v, (u - v).abs())))


def test_it_learns_its_pairs_and_the_metrics_are_those_of_what_is_saved(
    trained: TrainedReward, tiny_encoder_dir: Path
) -> None:
    assert isinstance(trained.referee, EncoderReferee)
    short = [pair for pair in keyword_pairs(80, 3) if max(len(pair.chosen), len(pair.rejected)) < 36]
    assert len(short) > 20
    ahead = [
        score(tiny_encoder_dir, trained.referee, pair, pair.chosen)
        - score(tiny_encoder_dir, trained.referee, pair, pair.rejected)
        for pair in short
    ]
    pairs = [(pair.prompt, text) for pair in short for text in (pair.chosen, pair.rejected)]
    scores = trained.referee.score_texts([p for p, _ in pairs], [r for _, r in pairs], batch_tokens=300)
    std = trained.referee.head.std
    found = [(a - b) * std for a, b in zip(scores[::2], scores[1::2], strict=True)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(ahead), atol=1e-3, rtol=1e-3)

    test = keyword_pairs(80, 3)
    chosen, rejected = (
        trained.referee.score_texts([p.prompt for p in test], [getattr(p, side) for p in test], batch_tokens=300)
        for side in ("chosen", "rejected")
    )
    won = [a > b for a, b in zip(chosen, rejected, strict=True)]
    assert trained.metrics["reward_referee_accuracy"] == pytest.approx(sum(won) / 80)
    assert sum(won) / 80 > 0.75
    longer = [len(p.chosen) > len(p.rejected) or 0.5 * (len(p.chosen) == len(p.rejected)) for p in test]
    assert trained.metrics["reward_referee_over_length"] == pytest.approx((sum(won) - sum(longer)) / 80)


def test_the_metrics_name_the_encoder_and_count_what_it_did_not_read(
    trained: TrainedReward, tiny_encoder_dir: Path
) -> None:
    metrics = trained.metrics
    assert metrics["reward_referee_encoder"] == "bert, 2 layers, 24 wide, texts of 40 word pieces"
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder_dir)
    own = divide(keyword_pairs(160, 1), 0.4, 0)[1]
    texts = {t for p in [*own, *keyword_pairs(60, 2), *keyword_pairs(80, 3)] for t in (p.chosen, p.rejected)}
    cut = [text for text in texts if len(tokenizer(text)["input_ids"]) > 40]
    assert metrics["reward_referee_replies_cut"] == len(cut) > 0
    assert metrics["reward_referee_prompts_cut"] == 0


def test_scores_have_mean_0_and_deviation_1_on_sft_replies(trained: TrainedReward) -> None:
    assert isinstance(trained.referee, EncoderReferee)
    (raw,) = SCALED
    assert len(raw) == 8
    mean = sum(raw) / 8
    assert trained.referee.head.mean == pytest.approx(mean, abs=1e-6)
    assert trained.referee.head.std == pytest.approx((sum((x - mean) ** 2 for x in raw) / 8) ** 0.5, rel=1e-6)


@pytest.mark.thorough
def test_the_first_model_and_its_metrics_are_as_without_an_encoder(
    trained: TrainedReward, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path
) -> None:
    other = train(write_pairs(tmp_path), tiny_model_dir, sft_dir, tmp_path / "out", None)
    assert torch.equal(trained.model.head.weight, other.model.head.weight)
    own = {name: value for name, value in trained.metrics.items() if not name.startswith("reward_referee")}
    assert own == {name: value for name, value in other.metrics.items() if not name.startswith("reward_referee")}
    more = set(trained.metrics) - set(other.metrics)
    assert more >= {f"reward_referee_{name}" for name in ("encoder", "prompts_cut", "replies_cut")}
    if "reward_referee_beats_length" in other.metrics:
        assert other.metrics["reward_referee_beats_length"] is False


def test_standardised_whatever_the_hidden_states_are(tiny_encoder_dir: Path) -> None:
    from rlhf.reward.fit_frozen import fit_settings

    assert on_encoder(fit_settings(params(standardise=False))) == fit_settings(params(standardise=True))


@pytest.mark.parametrize(
    ("right", "longer", "beats"),
    [(range(90), range(50), True), (range(60), range(59), False), (range(60), range(40, 100), False)],
)
def test_a_referee_that_does_not_beat_length_is_said_to_be_none(right: range, longer: range, *, beats: bool) -> None:
    """Of 100 pairs: those that the referee ranks as the annotator, and those whose chosen reply is the longer one."""
    pairs = [TextPair("p", "xx" if n in longer else "x", "x" if n in longer else "xx", None, 1) for n in range(100)]
    margins = [1.0 if n in right else -1.0 for n in range(100)]
    found = over_length_metrics(pairs, margins, 0, always=True)
    assert found["reward_referee_over_length"] == pytest.approx((len(right) - len(longer)) / 100)
    assert found["reward_referee_beats_length"] is beats
    quiet = over_length_metrics(pairs, margins, 0, always=False)
    assert quiet == ({} if beats else found)
    assert over_length_metrics(pairs, [], 0, always=True) == {}


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """Let SIGTERM come with the encoder's batch number `at`; the list gets one entry a batch."""
    embed, calls = SentenceEncoder.embed, list[int]()

    def stopping(self: SentenceEncoder, rows: Sequence[tuple[int, ...]]) -> Tensor:
        calls.append(len(rows))
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return embed(self, rows)

    monkeypatch.setattr(SentenceEncoder, "embed", stopping)
    return calls


def test_stopped_while_it_encodes_it_resumes_to_the_same_bytes(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    referee = EncoderReferee.unfitted(SentenceEncoder.load(tiny_encoder_dir))
    splits = {"test": keyword_pairs(30, 3), "referee": keyword_pairs(10, 4)}

    def go(name: str) -> Tensor:
        found = encoder_features(referee, splits, 200, Checkpoints(tmp_path / name, every_s=1e9, every_steps=2))
        return torch.cat([found.parts["test"], found.parts["referee"]])

    whole = go("whole")
    assert whole.shape == (40, 2, 72)
    calls = interrupted(monkeypatch, at=5)
    with pytest.raises(Stopped):
        go("stopped")
    assert len(calls) == 5
    assert torch.equal(go("stopped"), whole)
    batches = len(calls)
    go("anew")
    assert batches == len(calls) - batches, "the five finished batches are not computed again"


@pytest.mark.thorough
def test_turning_the_labels_of_its_own_pairs_turns_it_round(
    trained: TrainedReward, tiny_model_dir: Path, sft_dir: Path, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    """Column 0 is the chosen reply: validation and training turned round make a referee that is wrong."""
    write_pairs(tmp_path)
    for name, count, seed in (("train", 160, 1), ("validation", 60, 2)):
        turned = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in keyword_pairs(count, seed)]
        write_split(tmp_path / f"{name}.jsonl", turned)
    found = train(tmp_path, tiny_model_dir, sft_dir, tmp_path / "out", tiny_encoder_dir)
    assert float(found.metrics["reward_referee_accuracy"]) < 0.35  # type: ignore[arg-type]
    assert found.metrics["reward_referee_beats_length"] is False


def relevant(count: int, seed: int) -> list[TextPair]:
    """The better reply names what the prompt asks for; the same replies are better or worse by the prompt alone."""
    draws = torch.randint(2, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    words = (("sky", "egg"), ("egg", "sky"))
    return [
        TextPair(f"{words[n][0]} {'what ' * (k % 7)}", words[n][0], words[n][1], None, 1) for k, n in enumerate(draws)
    ]


def test_it_reads_the_prompt(tiny_model_dir: Path, sft_dir: Path, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path)
    for name, count, seed in (("train", 120, 1), ("validation", 40, 2), ("test", 60, 3)):
        write_split(tmp_path / f"{name}.jsonl", relevant(count, seed))
    found = train(tmp_path, tiny_model_dir, sft_dir, tmp_path / "out", tiny_encoder_dir)
    assert float(found.metrics["reward_referee_accuracy"]) > 0.85  # type: ignore[arg-type]
    assert found.metrics["reward_referee_beats_length"] is True


def test_a_broken_encoder_is_refused_before_anything_is_read(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    broken = shutil.copytree(tiny_encoder_dir, tmp_path / "broken")
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    nowhere = tmp_path / "nowhere"
    with pytest.raises(UserError, match=r"pytorch_model\.bin, which is pickle"):
        train(nowhere, nowhere, nowhere, tmp_path / "out", broken)


def test_evaluate_judges_by_it(
    trained: TrainedReward, tiny_model_dir: Path, sft_dir: Path, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    """From the reward stage's folder alone: PPO's mean, gain and win rate are those of the texts that were sampled."""
    at = Layout(tmp_path)
    shutil.copytree(tiny_model_dir, at.base)
    shutil.copytree(sft_dir, at.sft)
    make_adapter(at.base, at.ppo, seed=6)
    asked = [{"prompt": f"\n\nHuman: What is a {topic}?\n\nAssistant:"} for topic in TOPICS[:12]]
    write_jsonl(at.pairs / "test.jsonl", asked)
    write_jsonl(at.pairs / "validation.jsonl", asked[:2])
    write_jsonl(at.pairs / "ood.jsonl", [])
    write_json(at.pairs / "task.json", {"gold": None, "noise_ceiling": None})
    logged = {"iteration": 0, "prompt": "sky?", "response": " blue", "ended": True, "score": 0.0, "kl": 0.0}
    write_jsonl(at.rollouts, [logged])
    save_reward(trained.model, at.reward, base=at.base, sft=at.sft)
    save_referee(trained.referee, at.referee, base=at.base, sft=at.sft)
    found = evaluate(at, evaluation(samples=12, ood_prompts=0, probes=0), cpu())
    referee = load_referee(at.referee, base=at.base, sft=at.sft)
    assert isinstance(referee, EncoderReferee)
    own = {
        name: [
            (score(tiny_encoder_dir, referee, TextPair(str(row["prompt"]), "", "", None, 1), str(row[name]))
             + float(referee.head.line.bias) - referee.head.mean) / referee.head.std
            for row in found.samples
        ]
        for name in ("sft", "ppo")
    }  # fmt: skip
    for name, scores in own.items():
        assert found.metrics[f"eval_referee_{name}"] == pytest.approx(sum(scores) / 12, abs=1e-3)
    won = [a > b for a, b in zip(own["ppo"], own["sft"], strict=True)]
    tied = [row["ppo"] == row["sft"] for row in found.samples]
    assert found.metrics["eval_referee_winrate"] == pytest.approx((sum(won) + 0.5 * sum(tied)) / 12)
    assert "eval_referee_by" not in found.metrics
    assert (found.metrics["eval_referee_prompts_cut"], found.metrics["eval_referee_replies_cut"]) == (0, 0)
    (point,) = found.overoptimisation
    assert point.referee == pytest.approx(referee.score_texts(["sky?"], [" blue"], batch_tokens=99)[0], abs=1e-4)
    assert json.loads((at.referee / "backbone.json").read_text()).keys() == {"encoder"}
    assert read_json(at.referee / "reward.json")["hidden_size"] == 72
