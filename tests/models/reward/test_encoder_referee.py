"""A referee on a sentence encoder against its definition, worked out with plain transformers one text at a time."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from rlhf.core.artifacts import load_tensors, save_tensors
from rlhf.core.errors import UserError
from rlhf.core.processes import Processes
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.encoder import SentenceEncoder
from rlhf.models.reward.encoder_referee import EncoderReferee
from rlhf.models.reward.referee import load_referee, save_referee
from rlhf.models.reward.scoring import load_reward

PROMPT = "\n\nHuman: What is blue?\n\nAssistant:"
REPLIES = [" The sky is blue.", " Water, please.", "", " egg" * 60, " The sky is blue."]


def make(folder: Path, seed: int = 0) -> EncoderReferee:
    referee = EncoderReferee.unfitted(SentenceEncoder.load(folder))
    with torch.no_grad():
        referee.head.line.weight.copy_(torch.randn(1, 72, generator=torch.Generator().manual_seed(seed)))
    referee.head.mean, referee.head.std = 0.25, 2.0
    referee.head.requires_grad_(False)
    return referee


def by_hand(folder: Path, weight: Tensor, prompt: str, reply: str) -> float:
    """((w_1, w_2, w_3) . (v, u v, |u - v|) - mean) / std, u the embedding of the prompt's last 38 word pieces, v that
    of the reply's first 38."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text, kept in ((prompt, slice(-38, None)), (reply, slice(38))):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][kept]
        with torch.no_grad():
            states = model(torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])).last_hidden_state[0]
        mean = states.double().mean(0)
        found.append(mean / mean.norm())
    u, v = found
    first, second, third = weight.double().flatten().split(24)
    return float((first @ v + second @ (u * v) + third @ (u - v).abs() - 0.25) / 2)


def test_scores_are_those_of_the_definition(tiny_encoder_dir: Path) -> None:
    referee = make(tiny_encoder_dir)
    prompts = [PROMPT, "\n\nHuman: " + "sky " * 60 + "egg?\n\nAssistant:", "", PROMPT, PROMPT]
    found = referee.score_texts(prompts, REPLIES, batch_tokens=90)
    weight = referee.head.line.weight
    expected = [
        by_hand(tiny_encoder_dir, weight, prompt, reply) for prompt, reply in zip(prompts, REPLIES, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.5
    assert referee.cut_metrics("x_") == {"x_prompts_cut": 1, "x_replies_cut": 1}


def test_the_prompt_counts_by_its_end_and_the_reply_by_its_start(tiny_encoder_dir: Path) -> None:
    referee = make(tiny_encoder_dir)

    def score(prompt: str, reply: str) -> float:
        return referee.score_texts([prompt], [reply], batch_tokens=1000)[0]

    assert score("sky " * 60 + "egg", "blue") == score("water " * 30 + "sky " * 37 + "egg", "blue")
    assert score("sky " * 60 + "egg", "blue") != pytest.approx(score("sky " * 60, "blue"), abs=1e-3)
    assert score("egg", "sky " * 38 + "blue") == score("egg", "sky " * 38 + "light")
    assert score("egg", "sky " * 37 + "blue") != pytest.approx(score("egg", "sky " * 37 + "light"), abs=1e-4)


def rounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the encoder round every row otherwise, as products of other shapes do; the list gets each batch's size."""
    embed, calls = SentenceEncoder.embed, list[int]()

    def by_place(self: SentenceEncoder, rows: Sequence[tuple[int, ...]]) -> Tensor:
        found = embed(self, rows)
        places = 1.0 + torch.arange(len(rows))[:, None] + 100.0 * len(calls)
        calls.append(len(rows))
        return found * (1 + 1e-5 * places)

    monkeypatch.setattr(SentenceEncoder, "embed", by_place)
    return calls


def test_equal_texts_tie_exactly_whatever_batch_they_sit_in(
    tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    referee = make(tiny_encoder_dir)
    calls = rounded(monkeypatch)
    first = referee.score_texts([PROMPT] * 5, REPLIES, batch_tokens=45)
    assert first[0] == first[4]
    assert sum(calls) == 5  # the prompt and four distinct replies
    again = referee.score_texts([PROMPT] * 3, [" The sky is blue. ", " new", REPLIES[1]], batch_tokens=45)
    assert (again[0], again[2]) == (first[0], first[1])
    assert sum(calls) == 6
    fresh = referee.fresh().score_texts([PROMPT], [REPLIES[0]], batch_tokens=45)
    assert fresh != [first[0]]
    assert fresh == pytest.approx([first[0]], abs=0.1)


def test_samples_are_scored_by_their_texts(tiny_encoder_dir: Path) -> None:
    referee = make(tiny_encoder_dir)
    samples = [Sample(PROMPT, reply, ended, (1, 2)) for reply, ended in zip(REPLIES, [True, False] * 2, strict=False)]
    scores = referee.score_samples(samples, batch_tokens=500)
    assert scores == referee.score_texts([PROMPT] * 4, REPLIES[:4], batch_tokens=500)


def test_signs_of_control_tokens_are_no_part_of_a_prompt(tiny_encoder_dir: Path) -> None:
    referee = make(tiny_encoder_dir)
    plain, signed = (referee.score_texts([text], ["egg"], batch_tokens=99) for text in ("a </s>", "a <\ufdd0/s>"))
    assert plain == signed


def test_what_is_saved_scores_the_same_without_the_folder_it_came_from(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_encoder_dir, tmp_path / "source")
    (source / "notes.bin").write_bytes(b"nothing that is read")
    referee = make(source)
    nowhere = tmp_path / "nowhere"
    save_referee(referee, tmp_path / "referee", base=nowhere, sft=nowhere)
    shutil.rmtree(source)
    found = load_referee(tmp_path / "referee", base=nowhere, sft=nowhere)
    assert isinstance(found, EncoderReferee)
    scores = [one.score_texts([PROMPT] * 5, REPLIES, batch_tokens=300) for one in (referee, found)]
    assert scores[0] == scores[1]
    assert not (tmp_path / "referee" / "encoder" / "notes.bin").exists()
    assert (tmp_path / "referee" / "encoder" / "1_Pooling" / "config.json").is_file()


def test_an_encoder_that_was_changed_since_it_was_loaded_is_not_saved(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_encoder_dir, tmp_path / "source")
    referee = make(source)
    weights = load_tensors(source / "model.safetensors")
    save_tensors(source / "model.safetensors", {name: 2 * tensor for name, tensor in weights.items()})
    with pytest.raises(UserError, match="source: the encoder was changed while this ran"):
        referee.save(tmp_path / "changed")
    shutil.rmtree(source)
    with pytest.raises(UserError, match="source: the encoder's files cannot be read"):
        referee.save(tmp_path / "gone")


def test_another_encoder_beside_the_head_is_refused(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "referee"
    save_referee(make(tiny_encoder_dir), folder, base=tmp_path, sft=tmp_path)
    path = folder / "encoder" / "model.safetensors"
    weights = load_tensors(path)
    save_tensors(path, {name: 1.1 * tensor for name, tensor in weights.items()})
    with pytest.raises(UserError, match="encoder: not the encoder that this referee was fitted on"):
        EncoderReferee.load(folder)
    shutil.rmtree(folder / "encoder")
    with pytest.raises(UserError, match="not the encoder that this referee was fitted on"):
        EncoderReferee.load(folder)


def test_who_takes_it_for_a_head_on_the_backbone_is_refused(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    save_referee(make(tiny_encoder_dir), tmp_path / "referee", base=tmp_path, sft=tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="fitted on another base model"):
        load_reward(tmp_path / "referee", base=tmp_path / "other", sft=tmp_path / "other")


def test_batches_are_shared_as_they_are_told(tiny_encoder_dir: Path) -> None:
    class Told(Processes):
        def map(self, units, work):  # type: ignore[no-untyped-def]
            self.traffic.bytes += len(units)
            return [work(unit) for unit in units]

    told = Told()
    referee = make(tiny_encoder_dir)
    referee.score_texts([PROMPT] * 4, REPLIES[:4], batch_tokens=1, among=told)
    assert told.traffic.bytes == 5
