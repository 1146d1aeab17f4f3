"""Which functions judge: read from the parameters, without a library that is slow to import."""

from dataclasses import dataclass
from pathlib import Path

from rlhf.measure.params import RefereeParams


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function and where it is; `key` names its parameter, for errors."""

    key: str
    function: str  # module:function
    folder: Path
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions that judge; None where a reward model does."""

    reward: FunctionSpec | None = None  # PPO's own source
    referee: FunctionSpec | None = None  # in the place of the second reward model

    @classmethod
    def of(cls, source: str, function: str, folder: str, timeout_s: float, referee: RefereeParams) -> "Functions":
        """Take them from `ppo.source`, `ppo.function`, `ppo.function_path`, `ppo.function_timeout_s` and `referee`."""
        own = FunctionSpec("ppo.function", function, Path(folder), timeout_s)
        other = FunctionSpec(
            "referee.function", referee.function, Path(referee.function_path), referee.function_timeout_s
        )
        return cls(own if source == "function" else None, other if referee.function else None)


REWARD_MODELS = Functions()  # no function: reward models alone judge
