"""A label as an annotator would give it; light to import, for processes that are killed."""

from typing import Any

from rlhf.labels.record import Label


def label(**changes: Any) -> Label:
    values = {
        "prompt": "Why?", "a": "Because.", "b": "No.", "policy_a": "ppo", "policy_b": "sft", "round": 0, "answer": "A",
        "annotator": "ann", "kind": "people", "soft": None, "first": "B", "look": 1,
    }  # fmt: skip
    return Label(**(values | changes))
