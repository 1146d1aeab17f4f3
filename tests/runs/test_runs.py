"""Locks, tables and their keys."""

from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.runs.lock import parse_lock, upstream
from rlhf.runs.seed_table import Keys, SeedTable, meaning, numbers_of, read_tables_here, write_tables

LOCK = """
schema: '2.0'
stages:
  report:
    cmd: x
    deps: [{path: metrics, md5: 1.dir}]
    outs: [{path: reports/index.html, md5: b}]
  ppo:
    cmd: x
    deps: [{path: artifacts/sft, md5: c.dir, size: 3}, {path: rlhf/ppo, md5: d.dir}]
    params: {params.resolved.json: {ppo: {lr: 1e-05}, seed: 0}}
    outs: [{path: artifacts/ppo, md5: e.dir, size: 10, nfiles: 2}, {path: metrics/ppo.json, md5: f}]
  resolve:
    cmd: x
    outs: [{path: params.resolved.json, md5: h}]
  sft:
    cmd: x
    outs: [{path: artifacts/sft, md5: c.dir, size: 3}]
  offline@dpo:
    cmd: x
    deps: [{path: artifacts/sft, md5: c.dir}]
    outs: [{path: artifacts/offline/dpo, md5: g.dir}]
"""


def test_stages_are_in_the_order_of_what_they_read() -> None:
    lock = parse_lock(LOCK, "dvc.lock")
    assert list(lock).index("sft") < list(lock).index("ppo") < list(lock).index("report")
    assert list(lock).index("sft") < list(lock).index("offline@dpo")
    assert lock["ppo"].params == {"ppo": {"lr": 1e-5}, "seed": 0}
    assert lock["ppo"].outs[Path("artifacts/ppo")].size == 10
    assert list(lock).index("resolve") < list(lock).index("ppo")  # which reads its parameters, and nothing else
    assert set(upstream(lock, "ppo")) == {"resolve", "sft", "ppo"}
    assert set(upstream(lock, "report")) == {"resolve", "sft", "ppo", "report"}
    assert list(upstream(lock, "offline@dpo")) == ["sft", "offline@dpo"]
    with pytest.raises(UserError, match="--until offline: no such stage; found"):
        upstream(lock, "offline")


@pytest.mark.parametrize("text", ["schema: '2.0'", "stages: 3", "stages: {a: {outs: [{path: x}]}}", "a: [", "- a"])
def test_what_is_no_lock_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^x:?.*$"):
        parse_lock(text, "x")


def test_a_table_comes_back_as_it_was_written_a_seed_a_line(tmp_path: Path) -> None:
    rows = {
        str(seed): {"eval_kl": seed / 3, "only_0": 1.0} if seed == 0 else {"eval_kl": seed / 3} for seed in (10, 2, 0)
    }
    table = SeedTable("toy", Keys({"ppo": "a"}, "b"), {"torch": "2", "trl": None}, rows)
    path = tmp_path / "table.json"
    write_tables(path, {"toy": table})
    found = read_tables_here(path)["toy"]
    assert (found.keys, found.versions) == (table.keys, table.versions)
    assert found.columns(["eval_kl", "only_0"]) == {"eval_kl": pytest.approx([0, 2 / 3, 10 / 3], rel=1e-5)}  # by seed
    assert found.names() == ["eval_kl"]
    assert sum(line.strip().startswith('"10"') for line in path.read_text().splitlines()) == 1
    assert read_tables_here(tmp_path / "none.json") == {}
    for text in (
        "[]",
        "{",
        '{"toy": {}}',
        '{"toy": {"code": {}, "params": "", "versions": {}, "names": ["a"], "seeds": {"0": []}}}',
    ):
        path.write_text(text)
        with pytest.raises(UserError, match="not a table of seeds"):
            read_tables_here(path)


def test_numbers_are_what_has_a_spread() -> None:
    metrics = {"a": 1.5, "a_low": 1.0, "a_high": 2.0, "n": 3, "said": "x", "yes": True, "none": None}
    assert numbers_of(metrics) == {"a": 1.5, "n": 3}


CODE = '"""A module."""\n\nx = 1  # one\n\n\ndef f(a: int) -> int:\n    """Say what."""\n    return a + x\n'


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (CODE.replace("# one", "# the first").replace("A module", "Other words").replace("Say what", "Say it"), True),
        (CODE.replace("x = 1  # one\n\n\n", "x = (\n    1\n)\n"), True),
        (CODE.replace("a + x", "x + a"), False),
        (CODE.replace("x = 1", "x = 2"), False),
        (CODE.replace('    """Say what."""\n', ""), True),
        (CODE + "(", False),
    ],
)
def test_a_remark_changes_no_meaning(tmp_path: Path, text: str, same: bool) -> None:
    (tmp_path / "one.py").write_text(CODE)
    (tmp_path / "two.py").write_text(text)
    assert (meaning(tmp_path / "one.py") == meaning(tmp_path / "two.py")) == same
