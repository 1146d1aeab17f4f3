"""What lies beside the pairs in a folder of preferences: prompts from elsewhere, and questions with wrong beliefs."""

import os
from pathlib import Path

import pytest

from rlhf.core.artifacts import read_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.prepare.build import BaseChoice, prepare
from rlhf.prepare.write import write_prepared
from tests.prepare.helpers import data_params, pair_rows, write_lines

SCRATCH = BaseChoice("pretrain", None, None, None, 4096)
SHARED = Path(os.environ.get("RLHF_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def test_prompts_from_outside_the_distribution_lie_in_the_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", pair_rows(40))
    write_lines(tmp_path / "ood.jsonl", [{"prompt": "Strange?", "kind": "odd"}, {"prompt": "Other?"}])
    prepared = prepare(data_params(path=str(tmp_path)), SCRATCH, seed=0)
    assert prepared.ood == [("\n\nHuman: Strange?\n\nAssistant:", "odd"), ("\n\nHuman: Other?\n\nAssistant:", "ood")]
    assert prepared.metrics["prepare_rows_read"] == 40
    for row in ({"prompt": None}, {"turns": []}, {"turns": [3]}, {"turns": "Strange?"}):
        write_lines(tmp_path / "ood.jsonl", [row])
        with pytest.raises(UserError, match=r"ood\.jsonl:1: expected"):
            prepare(data_params(path=str(tmp_path)), SCRATCH, seed=0)


def test_of_mt_bench_the_first_turns_are_asked(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", pair_rows(40))
    rows = [{"question_id": 81, "category": "writing", "turns": ["Compose a post.", "Rewrite it."]}]
    write_lines(tmp_path / "ood.jsonl", rows)
    assert prepare(data_params(path=str(tmp_path)), SCRATCH, seed=0).ood == [
        ("\n\nHuman: Compose a post.\n\nAssistant:", "writing")
    ]


@pytest.mark.skipif(not (SHARED / "mtbench-prompts").is_dir(), reason=f"no {SHARED / 'mtbench-prompts'}")
def test_the_real_mt_bench_is_read_whole(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", pair_rows(40))
    (tmp_path / "ood.jsonl").write_bytes((SHARED / "mtbench-prompts" / "question.jsonl").read_bytes())
    ood = prepare(data_params(path=str(tmp_path)), SCRATCH, seed=0).ood
    assert len(ood) == len(set(ood)) == 80
    assert len({kind for _, kind in ood}) == 8


def test_probes_lie_in_the_folder_and_are_written_as_dialogues(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "a.jsonl", pair_rows(40))
    row = {"plain": "Where?", "leading": "I think here. Where?", "true": "there", "believed": "here"}
    write_lines(tmp_path / "in" / "probes.jsonl", [row])
    write_prepared(prepare(data_params(path=str(tmp_path / "in")), SCRATCH, seed=0), Layout(tmp_path / "out"))
    assert read_jsonl(Layout(tmp_path / "out").pairs / "probes.jsonl") == [
        row | {"plain": "\n\nHuman: Where?\n\nAssistant:", "leading": "\n\nHuman: I think here. Where?\n\nAssistant:"}
    ]
    write_lines(tmp_path / "in" / "probes.jsonl", [row, row | {"believed": None}])
    with pytest.raises(UserError, match=r"probes\.jsonl:2: believed: expected text, found None"):
        prepare(data_params(path=str(tmp_path / "in")), SCRATCH, seed=0)
