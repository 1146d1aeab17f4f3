"""Responses to text prompts: neither batch size nor order changes them, and seeds do."""

import pytest

from rlhf.core.errors import UserError
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import decode_response

PROMPTS = [f"\n\nHuman: {'why ' * n}?\n\nAssistant:" for n in (3, 1, 5, 2)]


def test_batch_size_changes_nothing_and_seeds_do(backbone: Backbone) -> None:
    def sample(batch_size: int, seed: int) -> list[str]:
        found = sample_texts(
            backbone, PROMPTS, adapter="sft", sampling=Sampling(10, 0.7),
            stream=(seed, "evaluate", 3), batch_size=batch_size,
        )  # fmt: skip
        assert [s.prompt for s in found] == PROMPTS
        assert all(s.response == decode_response(backbone.tokenizer, s.response_ids) for s in found)
        assert all(s.ended == (backbone.eos_id in s.response_ids) for s in found)
        return [s.response for s in found]

    assert sample(1, 0) == sample(3, 0) == sample(4, 0)
    assert sample(4, 0) != sample(4, 1)


def test_greedy_needs_no_seed(backbone: Backbone) -> None:
    twice = [
        sample_texts(backbone, PROMPTS, adapter=None, sampling=Sampling(5, 1.0), stream=None, batch_size=size)
        for size in (2, 4)
    ]
    assert twice[0] == twice[1]


def test_a_prompt_that_does_not_fit_is_named(backbone: Backbone) -> None:
    with pytest.raises(UserError, match=r"prompt 1 has .* context of 128"):
        sample_texts(
            backbone, [PROMPTS[0], "x y " * 100], adapter=None, sampling=Sampling(5, 1.0),
            stream=(0, "x"), batch_size=2,
        )  # fmt: skip


def test_no_prompts(backbone: Backbone) -> None:
    assert sample_texts(
        backbone, [], adapter=None, sampling=Sampling(5, 1.0), stream=None, batch_size=2
    ) == []  # fmt: skip
