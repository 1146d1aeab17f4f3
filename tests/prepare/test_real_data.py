"""Real preference files, against what their README says of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import GPT2TokenizerFast

from rlhf.core.errors import UserError
from rlhf.prepare.build import BaseChoice, Prepared, make_writer, prepare
from rlhf.prepare.lengths import token_lengths
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import Pair
from rlhf.prepare.sources import Source
from rlhf.prepare.written import write_all
from tests.prepare.helpers import VALUES, data_params


@pytest.fixture(scope="module")
def hh(shared_data: Path) -> Prepared:
    data = data_params(
        path=str(shared_data / "hh-helpful-base" / "test.jsonl.gz"),
        format="hh",
        on_bad_row="skip",
        max_tokens=100_000,
        vocabulary=600,
    )
    return prepare(data, BaseChoice("pretrain", None, None, None, 200_000), seed=0)


def test_hh_agrees_with_its_readme(hh: Prepared) -> None:
    assert hh.metrics["prepare_rows_read"] == 2354
    assert hh.metrics["prepare_rows_kept"] == 2339
    assert round(float(hh.metrics["prepare_longer_chosen"] or 0), 3) == 0.594
    assert hh.metrics["prepare_set_aside_mismatched_prompt"] == 9
    assert hh.metrics["prepare_set_aside_blank_reply"] == 4  # a space after "Assistant:", and nothing
    assert hh.metrics["prepare_set_aside_tie"] == 2
    assert hh.metrics["prepare_rows_dropped"] == 0


def test_hh_token_lengths_agree_with_its_readme(hh: Prepared, shared_data: Path) -> None:
    tokenizer = GPT2TokenizerFast.from_pretrained(shared_data / "gpt2-tokenizer")
    pairs = [pair for pairs in hh.splits.values() for pair in pairs]
    totals = [one.prompt + one.chosen for one in token_lengths(pairs, tokenizer)]
    assert list(np.percentile(totals, [50, 90])) == pytest.approx([162, 383], abs=1)


def test_no_hh_prompt_is_on_two_sides(hh: Prepared) -> None:
    sides = [{" ".join(p.prompt.lower().split()) for p in pairs} for pairs in hh.splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 2339
    assert [len(side) for side in sides] == pytest.approx([0.6 * 2339, 0.2 * 2339, 0.2 * 2339], rel=0.1)


def test_hh_replies_hold_no_further_turn(hh: Prepared) -> None:
    for pairs in hh.splits.values():
        for pair in pairs:
            assert pair.prompt.endswith("\n\nAssistant:")
            assert "\n\nAssistant:" not in pair.chosen + pair.rejected


def test_polite_rewrites_with_a_real_tokenizer(shared_data: Path) -> None:
    columns = VALUES["columns"] | {"prompt": "instruction", "extra": "input"}
    data = data_params(path=str(shared_data / "polite-rewrites"), columns=columns, on_bad_row="skip", max_tokens=511)
    prepared = prepare(data, BaseChoice("path", str(shared_data / "stories260K"), None, None, 0), seed=0)
    assert prepared.metrics["prepare_rows_read"] == 1100
    assert prepared.metrics["prepare_set_aside_tie"] == prepared.metrics["prepare_rows_set_aside"]
    found = [pair for pairs in prepared.splits.values() for pair in pairs if "freind" in pair.prompt]
    assert [pair.prompt for pair in found] == [
        "\n\nHuman: Evaluate the following phrase by transforming it into the spelling given.\n\nfreind --> friend"
        "\n\nAssistant:"
    ]
    assert (
        found[0].chosen == ' The spelling of the given phrase "freind" is incorrect, the correct spelling is "friend".'
    )


def test_real_conversations_are_read_whole(shared_data: Path) -> None:
    """Against the file itself: last turn, number of turns, replies."""
    path = shared_data / "chat-preferences" / "dpo_en_demo.json"
    data = data_params(path=str(path), format="auto")
    source = Source(data, 0)
    made = [one for one in write_all(source, make_writer(data, None, None), Ledger()) if isinstance(one, Pair)]
    truth = json.loads(path.read_text())
    assert len(made) == len(truth) == 300
    for pair, row in zip(made, truth, strict=True):
        assert (pair.chosen.strip(), pair.rejected.strip()) == (
            row["chosen"]["value"].strip(),
            row["rejected"]["value"].strip(),
        )
        asked = [turn["value"].strip() for turn in row["conversations"] if turn["from"] == "human"]
        assert pair.turns >= len(asked)
        assert pair.prompt.endswith(f"\n\nHuman: {asked[-1]}\n\nAssistant:")
    assert "took the rows for conversations" in source.notes.lines()[0]


def test_real_labels_without_counterparts_are_refused(shared_data: Path) -> None:
    """One prompt of 297 has both labels, says the README."""
    data = data_params(path=str(shared_data / "chat-preferences" / "kto_en_demo.json"), format="auto")
    with pytest.raises(UserError, match=r"1 of 297 prompts have replies to compare .* 298 of 299 rows break this rule"):
        prepare(data, BaseChoice("pretrain", None, None, None, 200_000), seed=0)
