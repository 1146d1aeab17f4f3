"""Old logprobs and values from the sampler, or by a pass of their own."""

import pytest
import torch

from rlhf.models.fast.engine import Engine
from rlhf.ppo.actors import POLICY
from rlhf.ppo.rollout import respond
from tests.models.helpers import STATES
from tests.ppo.worlds import make_actors, make_params, make_setup


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_both_ways_agree(tiny_model_dir, tiny_adapter_dir, engine: Engine) -> None:  # type: ignore[no-untyped-def]
    actors = make_actors(tiny_model_dir, tiny_adapter_dir, engine=engine)
    torch.nn.init.normal_(actors.value_head.linear.weight, generator=torch.Generator().manual_seed(0))
    setup = make_setup(actors, make_params())
    prompts = setup.prompts.batch(0, 8)
    own, again = (
        respond(actors, prompts, uniforms=setup.uniforms(0), temperature=0.7, microbatch=3, rescore=rescore)
        for rescore in (False, True)
    )
    assert torch.equal(own.episodes.response_ids, again.episodes.response_ids)
    for name in ("logprobs", "entropy", "values"):
        torch.testing.assert_close(getattr(own, name), getattr(again, name), **STATES)
    assert float(own.values.abs().max()) > 0.1
    assert POLICY in actors.backbone.adapters()
