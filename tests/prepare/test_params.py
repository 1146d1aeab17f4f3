from typing import Any

import pytest

from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.prepare.params import DataParams
from tests.prepare.helpers import VALUES


def refused(**changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(DataParams, VALUES | changes, where="params.yaml", key="data")
    return str(caught.value)


def test_sound_values_pass() -> None:
    check(DataParams, VALUES, where="params.yaml", key="data")
    pinned = {"repo": "a/b", "revision": "0" * 40, "data_dir": None, "split": "train"}
    check(DataParams, VALUES | {"source": "hub", "hub": pinned}, where="params.yaml", key="data")


@pytest.mark.parametrize("revision", ["main", "v1.0", None, "0" * 39, "G" * 40])
def test_a_hub_dataset_must_be_pinned(revision: str | None) -> None:
    hub = {"repo": "a/b", "revision": revision, "data_dir": None, "split": "train"}
    line = refused(source="hub", hub=hub)
    assert "data.hub.revision must be a commit of 40 hex digits" in line
    assert repr(revision) in line


@pytest.mark.parametrize("template", ["no gap", "{prompt} and {prompt}", "{prompt} {other}", "{question}"])
def test_a_template_has_one_gap(template: str) -> None:
    assert "data.prompt_template must hold {prompt} once" in refused(prompt_template=template)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"on_bad_row": "ignore"}, "data.on_bad_row"),
        ({"min_tokens": "10"}, "data.min_tokens"),
        ({"min_tokens": True}, "data.min_tokens"),
        ({"test_share": 0.5}, "data.test_share"),
        ({"test_share": float("nan")}, "data.test_share"),
        ({"vocabulary": 100}, "data.vocabulary"),
        ({"max_pair": 3}, "data.max_pair: unknown key"),
        ({"synthetic": VALUES["synthetic"] | {"annotator_temperature": 0.0}}, "data.synthetic.annotator_temperature"),
        ({"synthetic": VALUES["synthetic"] | {"bias": 1}}, "data.synthetic.bias: unknown key"),
        ({"columns": VALUES["columns"] | {"chosen": ""}}, "data.columns.chosen"),
        ({"columns": VALUES["columns"] | {"first": "a"}}, "data.columns.first and data.columns.second go together"),
        ({"format": "sharegpt"}, "data.format"),
    ],
)
def test_an_error_names_its_key(changes: dict[str, Any], key: str) -> None:
    assert key in refused(**changes)
