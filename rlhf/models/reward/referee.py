"""The referee on disk, whatever it stands on: written by `reward`, read by whoever lets it judge."""

from pathlib import Path

from rlhf.core.artifacts import write_json
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.encoder_referee import EncoderReferee, reads_encoder
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, Known, Scorer, load_reward, save_reward

NO_REFEREE = "none.json"  # a note in the referee's folder, where there is none

Referee = RewardModel | EncoderReferee


def save_referee(model: Referee | None, folder: Path, *, base: Path, sft: Path) -> None:
    """Write the referee, which PPO is not trained on: as `save_reward` does, or with its own encoder; for None a note
    (NO_REFEREE)."""
    if model is None:
        write_json(folder / NO_REFEREE, {"referee": False, "why": "reward.referee_share is 0"})
    elif isinstance(model, EncoderReferee):
        model.save(folder)
    else:
        save_reward(model, folder, base=base, sft=sft)


def load_referee(folder: Path, *, base: Path, sft: Path) -> Referee | None:
    """Read what `save_referee` wrote; None where the run has no referee.

    Raises:
        UserError: as `load_reward` and `EncoderReferee.load`.
    """
    if (folder / NO_REFEREE).is_file():
        return None
    return EncoderReferee.load(folder) if reads_encoder(folder) else load_reward(folder, base=base, sft=sft)


def scorer_of(
    model: Referee, backbone: Backbone, *, under: str = ADAPTER, known: Known | None = None
) -> Scorer | EncoderReferee:
    """Make a referee (or the first reward model) ready to score, on the backbone's device.

    Without an encoder of its own it reads `backbone` under the adapter `under`: a referee under ADAPTER, also where the
    first reward model has an adapter of its own.
    """
    if isinstance(model, EncoderReferee):
        return model.to(backbone.device)
    return Scorer(backbone, model.to(backbone.device), under, known)
