"""`make active-learning`: buy labels of the offline task's pairs by each strategy of `acquire`: accuracy over labels.

    python -m studies.active_learning [--run .] [--seeds 0 1 2 ...]

From the artifacts of a run (`dvc repro` first; --run names its folder): features of the training and test pairs are
computed once, on the frozen SFT backbone, and linear heads are fitted on them many times. A seed draws the labels of
all pairs anew (simulated annotators: gold with the task's noise), which reply is called A, the first pairs and the
strategies' draws; the backbone is that of the run throughout. Minutes on one core. Writes
benchmarks/results/active_learning.{json,md,png}.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.acquire.strategies import Pool, choose
from rlhf.core.artifacts import write_json, write_text
from rlhf.core.layout import Layout
from rlhf.core.params import dug, read_resolved
from rlhf.core.seeding import numpy_rng
from studies.active_learning_table import draw, summary, table
from studies.command import options, run_command

Array = NDArray[np.float64]

STRATEGIES = ("random", "margin", "ensemble", "d_optimal")
START = 8  # pairs that every strategy begins with, drawn at random, the same for all
BUDGETS = (8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024)  # steps of the square root of 2
MEMBERS = 8  # heads of the ensemble
PILOT = range(1000, 1005)  # seeds that RIDGE was chosen on, and that the study does not use
RIDGE = 100.0  # penalty ridge / 2 |w|^2 on standardised features, in labels; the best of `pilot`, by random alone


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of one split. Axes: N pairs, D features."""

    prompts: list[str]
    differences: Array  # (N, D) features of the first reply less those of the second, standardised
    leads: Array  # (N,) gold of the first less that of the second, in logits of the annotator


def load(root: Path) -> tuple[Pairs, Pairs]:
    """Compute the features of training and test pairs of a run of the offline task; the scale is that of training."""
    import torch

    from rlhf.core.checkpoint import Checkpoints
    from rlhf.models.policy.backbone import Backbone
    from rlhf.models.reward.scoring import ADAPTER, load_reward
    from rlhf.reward.features import pair_features
    from rlhf.reward.pairs import read_pairs
    from rlhf.synthetic.gold import gold_reward

    at = Layout(root)
    backbone = Backbone.load(at.base, {ADAPTER: at.sft}, dtype=torch.float32, device="cpu")
    model = load_reward(at.reward, base=at.base, sft=at.sft)
    temperature = float(dug(read_resolved(at.resolved), "data.synthetic.annotator_temperature"))
    found, scale = [], None
    for split in ("train", "test"):
        pairs = read_pairs(at.pairs / f"{split}.jsonl")
        with tempfile.TemporaryDirectory() as folder:  # a minute's work: made anew each time, never of an earlier run
            features = pair_features(
                backbone, pairs, model=model, adapter=ADAPTER, batch_tokens=4096,
                checkpoints=Checkpoints(Path(folder), every_s=1e9, every_steps=0),
            ).double().numpy()  # fmt: skip
        scale = features.reshape(-1, features.shape[-1]).std(axis=0) if scale is None else scale
        gold = [gold_reward(p.prompt, p.chosen) - gold_reward(p.prompt, p.rejected) for p in pairs]
        differences = (features[:, 0] - features[:, 1]) / np.where(scale > 1e-8, scale, 1.0)
        found.append(Pairs([pair.prompt for pair in pairs], differences, np.array(gold) / temperature))
    return found[0], found[1]


def fit(x: Array, weights: Array, ridge: float = RIDGE) -> Array:
    """Fit w by Newton's method: least sum of weights x log(1 + exp(-x w)) + ridge / 2 |w|^2; x is winner less loser."""
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(np.clip(x @ w, -500, 500)))  # of the wrong side
        gradient = -(x.T @ (weights * p)) + ridge * w
        curvature = (x.T * (weights * p * (1 - p))) @ x + ridge * np.eye(len(w))
        step = np.linalg.solve(curvature, gradient)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w


def curve(name: str, pool: Pairs, test: Pairs, seed: int, ridge: float = RIDGE) -> dict[str, list[float]]:
    """Buy labels up to each budget, each time by a head fitted on those bought before; return the accuracy on the test
    pairs' labels, and the share that the head orders as gold does, at each budget and last with all labels bought."""
    draws = numpy_rng(seed, "active learning", "labels")
    flips = draws.choice([-1.0, 1.0], len(pool.leads))  # which reply is A
    x, leads = pool.differences * flips[:, None], pool.leads * flips
    labels = np.where(draws.random(len(leads)) < 1 / (1 + np.exp(-leads)), 1.0, -1.0)
    said = np.where(draws.random(len(test.leads)) < 1 / (1 + np.exp(-test.leads)), 1.0, -1.0)
    bought = draws.permutation(len(leads))[:START].tolist()
    own = numpy_rng(seed, "active learning", name)
    found: dict[str, list[float]] = {"accuracy": [], "gold": []}
    for budget in (*BUDGETS, len(leads)):
        if budget == len(leads):
            bought = list(range(budget))
        elif budget > len(bought):
            bought += _next(name, (x, labels, pool.prompts), bought, budget - len(bought), draws=own, ridge=ridge)
        w = fit(x[bought] * labels[bought, None], np.ones(len(bought)), ridge)
        scores = test.differences @ w
        found["accuracy"].append(_right(scores, said))
        decided = test.leads != 0
        found["gold"].append(_right(scores[decided], np.sign(test.leads[decided])))
    return found


def _next(
    name: str, of: tuple[Array, Array, list[str]], bought: list[int], count: int, *, draws: Any, ridge: float
) -> list[int]:
    x, labels, prompts = of
    won = x[bought] * labels[bought, None]
    w = fit(won, np.ones(len(bought)), ridge)
    left = np.setdiff1d(np.arange(len(x)), bought)
    members = np.zeros((len(left), 1))
    if name == "ensemble":
        counts = [
            np.bincount(draws.integers(0, len(bought), len(bought)), minlength=len(bought)) for _ in range(MEMBERS)
        ]
        members = np.column_stack([x[left] @ fit(won, each.astype(float), ridge) for each in counts])
    known = np.column_stack((x[bought], x[bought] @ w))
    pool = Pool([prompts[k] for k in left], x[left] @ w, members, x[left], known)
    return [int(left[k]) for k in choose(name, pool, count, draws, ridge=ridge, per_prompt=0)]


def _right(scores: Array, truth: Array) -> float:
    """The share of pairs ordered as in truth (1 or -1), ties half."""
    return float(np.mean(np.where(scores == 0, 0.5, np.sign(scores) == truth)))


def pilot(pool: Pairs, test: Pairs) -> dict[str, float]:
    """Average random's accuracy over the budgets and the pilot's seeds for several ridges: how RIDGE was chosen."""
    found = {}
    for ridge in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0):
        curves = [curve("random", pool, test, seed, ridge)["accuracy"] for seed in PILOT]
        found[f"{ridge:g}"] = float(np.mean(curves))
    return found


def study(root: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Make all curves, and what they say."""
    pool, test = load(root)
    curves = {name: [curve(name, pool, test, seed) for seed in seeds] for name in STRATEGIES}
    budgets = [*BUDGETS, len(pool.leads)]
    found: dict[str, Any] = {"budgets": budgets, "seeds": list(seeds), "pilot": pilot(pool, test), "curves": curves}
    return found | {"pairs": {"pool": len(pool.leads), "test": len(test.leads)}, **summary(curves, budgets)}


def main() -> None:
    parser = options(__doc__, ".studies")
    parser.add_argument("--run", type=Path, default=Path(), help="folder of a run of the offline task")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20)))
    given = parser.parse_args()
    found = study(given.run, given.seeds)
    write_json(given.out / "active_learning.json", found)
    write_text(given.out / "active_learning.md", table(found))
    draw(given.out / "active_learning.png", found)
    print(table(found))


if __name__ == "__main__":
    run_command(main)
