"""Hashes are those that DVC writes."""

import json
import subprocess
import sys
from pathlib import Path

from rlhf.core.dvc_hash import dvc_md5
from rlhf.core.yaml import read_yaml
from rlhf.report.lineage import libraries, made_of, read_files


def test_hashes_are_dvcs_own(tmp_path: Path) -> None:
    """The real `dvc add` in a throwaway repository, on a file and on a folder with folders in it."""
    (tmp_path / "file").write_text("α\r\n")
    for name in ("b/x.txt", "b.txt", "a/z/deep", "a-b"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for command in (["init", "--no-scm", "-q"], ["add", "-q", "file", "tree"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True, capture_output=True)
    for name in ("file", "tree"):
        assert dvc_md5(tmp_path / name) == read_yaml(tmp_path / f"{name}.dvc")["outs"][0]["md5"]


def test_only_what_is_there_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    found = read_files([tmp_path / "a", tmp_path / "missing", tmp_path / "a"])
    assert found == [((tmp_path / "a").as_posix(), "d41d8cd98f00b204e9800998ecf8427e")]  # of no bytes: RFC 1321


def test_provenance_is_laid_out_by_stage() -> None:
    record = json.loads('{"inputs": {"x": "1"}, "outputs": {"y": "2"}, "versions": {"torch": "2.8"}}')
    other = {"versions": {"torch": "2.9"}}
    assert made_of({"sft": record, "ppo": other}) == [("sft", "input", "x", "1"), ("sft", "output", "y", "2")]
    assert libraries({"sft": record, "ppo": other}) == {"torch": {"2.8", "2.9"}}
