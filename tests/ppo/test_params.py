"""The `ppo` section: off switches, and errors that name the key."""

import pytest

from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.ppo.params import PPOParams
from tests.ppo.worlds import BASIC


def checked(**changes: object) -> PPOParams:
    return check(PPOParams, BASIC | changes, where="params.yaml", key="ppo")


def test_a_batch_that_its_minibatch_does_not_divide_names_both() -> None:
    with pytest.raises(
        UserError, match=r"params\.yaml: ppo: minibatch must divide batch: found minibatch 5 and batch 8"
    ):
        checked(minibatch=5)
    with pytest.raises(UserError, match="found minibatch 16 and batch 8; allowed are 1, 2, 4, 8"):
        checked(minibatch=16)


def test_zero_switches_off() -> None:
    off = checked(kl_limit=0, max_grad_norm=0.0, validation_every=0, value_clip=0.0)
    assert off.kl_limit is off.max_grad_norm is off.validation_every is off.value_clip is None
    assert checked(kl_limit=3.5).kl_limit == 3.5
    # What `resolve` writes is read again by the stage.
    assert PPOParams.model_validate_json(off.model_dump_json()) == off


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kl_coeff": 0.1}, "ppo.kl_coeff: unknown key"),
        ({"kl_coef": "abc"}, "ppo.kl_coef"),
        ({"kl_coef": -0.1}, "ppo.kl_coef"),
        ({"kl_limit": -1.0}, "ppo.kl_limit"),
        ({"clip_ratio": 1.5}, "ppo.clip_ratio"),
        ({"temperature": 0.0}, "ppo.temperature"),
        ({"kl_estimator": "k4"}, "ppo.kl_estimator"),
        ({"epochs": 0}, "ppo.epochs"),
        ({"whiten_rewards": 1}, "ppo.whiten_rewards"),
    ],
)
def test_bad_values_name_their_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(**change)
