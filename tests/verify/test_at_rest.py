"""Files where they lie: whatever is done to one of them, it is the one that is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.core.yaml import read_yaml
from rlhf.verify.at_rest import AtRest, check_at_rest, report
from tests.stages.forker import Forker
from tests.verify.toy import STAGES, Toy, write

pytestmark = pytest.mark.pipeline
ADAPTER, LINES, NUMBERS = "artifacts/sft/weights.txt", "artifacts/ppo/deep/words.txt", "metrics/reward.json"


def look(toy: Toy, **options: bool) -> AtRest:
    return check_at_rest(toy.folder, **options)


def named(toy: Toy) -> dict[str, str]:
    return {one.where: one.what for one in look(toy).problems}


def change(path: Path, act: Callable[[bytearray], object]) -> None:
    """Write other bytes to a file that is nobody else's."""
    data = bytearray(path.read_bytes())
    act(data)
    path.unlink()
    path.write_bytes(data)


def flip(data: bytearray) -> None:
    data[len(data) // 2] ^= 1


def cut(data: bytearray) -> None:
    del data[-4:]


def cached(toy: Toy, out: str) -> Path:
    """The object of an output in DVC's cache."""
    locked = read_yaml(toy.folder / "dvc.lock")["stages"]
    md5 = next(one["md5"] for stage in locked.values() for one in stage["outs"] if one["path"] == out)
    return toy.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def test_a_whole_run(made_toy: Toy) -> None:
    found = look(made_toy)
    assert found.problems == []
    assert (found.outputs, found.files) == (22, 29)  # resolved, 7 of metrics and of provenance, 14 of artifacts
    assert found.objects == 7 + 8  # folders, weights, and the words that all share
    assert report(found).startswith("verify: whole: 22 outputs (29 files) and 15 objects")


@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
@pytest.mark.parametrize(
    ("act", "where", "what"),
    [
        (lambda at: change(at / ADAPTER, flip), ADAPTER, "is not what sft wrote"),
        (lambda at: change(at / LINES, cut), LINES, "is not what ppo wrote"),
        (lambda at: change(at / NUMBERS, flip), NUMBERS, "is not what reward wrote"),
        (lambda at: change(at / NUMBERS, cut), NUMBERS, "cut to "),
        (lambda at: (at / LINES).unlink(), LINES, "is missing; ppo wrote it"),
        (lambda at: (at / NUMBERS).unlink(), NUMBERS, "is missing; reward wrote it"),
        (lambda at: shutil.rmtree(at / "artifacts/base"), "artifacts/base", "is missing; base wrote it"),
        (lambda at: write(at / "artifacts/sft/pytorch_model.bin", ""), "artifacts/sft/pytorch_model.bin",
         "was not written by sft"),
        (lambda at: write(at / "metrics/own.json", "{}"), "metrics/own.json", "was written by no stage"),
        (lambda at: change(at / "provenance/sft.json", flip), "provenance/sft.json", "is not what sft wrote"),
        (lambda at: (at / "provenance/sft.json").unlink(), "provenance/sft.json", "is missing; sft wrote it"),
    ],
)  # fmt: skip
def test_one_fault_is_one_name(toy: Toy, act: Callable[[Path], object], where: str, what: str, cache: bool) -> None:
    if not cache:
        shutil.rmtree(toy.folder / ".dvc/cache")
    act(toy.folder)
    found = named(toy)
    assert what in found.pop(where)
    assert not {path for path in found if not path.startswith("provenance/")}  # a broken record may be named twice


@pytest.mark.parametrize("out", ["artifacts/sft", "artifacts/ppo"])
def test_a_damaged_object_of_the_cache_that_dvc_would_restore(toy: Toy, out: str, forker: Forker) -> None:
    listing = json.loads(cached(toy, out).read_bytes())
    md5 = next(one["md5"] for one in listing if one["relpath"] == "weights.txt")
    victim = toy.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    victim.chmod(0o644)
    change(victim, flip)
    ((path, what),) = named(toy).items()
    assert path == str(victim)
    assert f"what DVC restores {out}/weights.txt from" in what
    (toy.folder / out / "weights.txt").unlink()
    toy.dvc(forker, "checkout", "--force", out)  # which says nothing
    assert f"{out}/weights.txt" in named(toy)


def test_a_damaged_listing(toy: Toy) -> None:
    victim = cached(toy, "artifacts/sft")
    victim.chmod(0o644)
    change(victim, flip)
    assert list(named(toy)) == [str(victim)]
    change(toy.folder / ADAPTER, flip)  # and the file is still named, by provenance
    assert set(named(toy)) == {str(victim), ADAPTER}


def test_objects_of_other_runs_are_looked_at_when_asked(toy: Toy) -> None:
    other = toy.folder / ".dvc/cache/files/md5/00/112233445566778899aabbccddeeff"
    write(other, "not that")
    assert look(toy).problems == []
    (problem,) = look(toy, whole_cache=True).problems
    assert problem.where == str(other)


def test_a_cache_elsewhere_is_found(toy: Toy, forker: Forker, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shutil.move(toy.folder / ".dvc/cache", shared)
    assert look(toy).objects == 0
    toy.dvc(forker, "cache", "dir", "--local", "../shared")
    assert look(toy).objects == 15


def test_what_was_made_again_by_hand_is_not_called_damaged(toy: Toy) -> None:
    toy.run("python", "make.py", "ppo", TOY_PROCESSOR="Toy B:1")
    found = named(toy)
    assert "was made again since: provenance/ppo.json knows it" in found["artifacts/ppo/weights.txt"]
    assert "was made again since" in found["metrics/ppo.json"]
    assert set(found) == {"artifacts/ppo/weights.txt", "metrics/ppo.json", "provenance/ppo.json"}


def test_a_run_made_in_pieces(toy: Toy) -> None:
    """SFT was made from another base than the one that is here, and each record agrees with its files."""
    for stage, role, digest in (("base", "outputs", "one"), ("sft", "inputs", "two")):
        path = toy.folder / "provenance" / f"{stage}.json"
        write(path, json.dumps(json.loads(path.read_text()) | {role: {"artifacts/base": digest}}))
    lines = [one.what for one in look(toy).problems]
    assert "says that sft was made from another artifacts/base than the one that is here" in lines


def test_without_a_lock(toy: Toy) -> None:
    (toy.folder / "dvc.lock").unlink()
    with pytest.raises(UserError, match=r"dvc\.lock: no such file"):
        look(toy)
    write(toy.folder / "dvc.lock", "stages:\n  sft:\n    outs:\n    - md5: 1\n")
    with pytest.raises(UserError, match=r"dvc\.lock: not what DVC 3 writes"):
        look(toy)
    write(toy.folder / "dvc.lock", "stages: [\n")
    with pytest.raises(UserError, match=r"dvc\.lock:\d+: not YAML"):
        look(toy)


def test_the_toy_has_the_pipelines_stages() -> None:
    assert set(STAGES) < set(read_yaml(Path(__file__).resolve().parents[2] / "dvc.yaml")["stages"])
