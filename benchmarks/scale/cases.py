"""What `make scale` times: steps of some sizes, by some processes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

MOST = {"base": 8, "ppo": 16}  # processes
HEAD = 32  # width of an attention head: the default's


@dataclass(frozen=True)
class Case:
    """A step of pretraining (`base`: a batch of rows) or of PPO (`ppo`: a batch of episodes)."""

    what: str
    shards: int
    processes: int
    batch: int
    width: int  # of the model


def axes(sizes: Mapping[str, tuple[int, int]], most: int) -> dict[str, list[Case]]:
    """List the cases along each axis.

    `sizes`: batch and width of each kind of step in the default run; `most`: the most processes. Over processes: one
    shard in one process, then n shards in one and in n processes. Over batch and width, which are halved and doubled:
    one shard in one process, and two in two.
    """
    found: dict[str, list[Case]] = {"processes": [], "batch": [], "width": []}
    for what, (batch, width) in sizes.items():
        one = Case(what, 1, 1, batch, width)
        found["processes"].append(one)
        shards = 2
        while shards <= min(MOST[what], most):
            found["processes"] += [replace(one, shards=shards, processes=n) for n in (1, shards)]
            shards *= 2
        for name, size in (("batch", batch), ("width", width)):
            for number in (size // 2, size, 2 * size):
                sized = replace(one, **{name: number})
                found[name] += [sized, replace(sized, shards=2, processes=2)] if most > 1 else [sized]
    return found
