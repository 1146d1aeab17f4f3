"""Project a step of PPO to 8 and to 4 x 8 GPUs, from stated speeds: a projection, nothing here was measured on a GPU.

    python -m benchmarks.projection [--tflops 312] [--utilisation 0.3] [--divided 0.94]

Counted: the arithmetic of a step, and the bytes that each process sends for it (the tree of sums of
`rlhf.core.processes`, and the rollout, which every process gets whole). Stated: what a card computes (the assumptions
of the report's costs), what links carry by gloo from the host's memory, and the share of a step that processes divide,
which `make scale` measures on processors. Writes benchmarks/results/projection.md.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import write_text

RESULT = Path(__file__).parent / "results/projection.md"
WITHIN, BETWEEN = 5e9, 2.5e9  # bytes a second: gloo over loopback; gloo over 25 Gbit/s and more between machines
LATENCY_S = {WITHIN: 50e-6, BETWEEN: 200e-6}  # of a message
CARDS = 8  # of a machine
CLUSTERS = (1, 8, 32)
NUMBERS, SIZE = 7, 8  # a token's numbers that are gathered after a rollout, as float64


@dataclass(frozen=True)
class Model:
    """A model and its adapter: weights of the whole, and weights that learn."""

    name: str
    weights: float
    learnt: float


@dataclass(frozen=True)
class Work:
    """A step: episodes of some tokens, passes over them, and minibatches a pass."""

    episodes: int = 512
    prompt: int = 128
    response: int = 128
    passes: int = 4
    minibatches: int = 4

    def flop(self, model: Model) -> float:
        """Count operations: 2 a weight and token forward; sampling, two models that score, and updates at three times a
        forward pass (Kaplan et al. 2020, arXiv 2001.08361, section 2.1; attention left out)."""
        tokens = self.episodes * (self.prompt + self.response)
        return 2 * model.weights * tokens * (1 + 2 + 3 * self.passes)


MODELS = (
    Model("GPT-2, 124 M, LoRA r8 on c_attn, c_proj", 124e6, 0.81e6),
    Model("TinyLlama, 1.1 B, LoRA r8 on q, k, v, o", 1.1e9, 2.25e6),
    Model("7 B, LoRA r8 on q, k, v, o", 7e9, 8.4e6),
)


@dataclass(frozen=True)
class Step:
    """A projected step: seconds of computing and of sending, and bytes that each process sends."""

    computing: float
    sending: float
    sent: float

    @property
    def seconds(self) -> float:
        """Add up: nothing is sent while something is computed."""
        return self.computing + self.sending


def project(model: Model, work: Work, cards: int, *, speed: float, divided: float) -> Step:
    """Project a step on `cards` cards, 8 a machine. `speed`: operations a second of a card; `divided`: the share of a
    step's time that processes divide (Amdahl)."""
    alone = work.flop(model) / speed
    computing = alone * (1 - divided + divided / cards)
    gradient = 4 * model.learnt
    levels = [WITHIN] * int(math.log2(min(cards, CARDS))) + [BETWEEN] * int(math.log2(max(1, cards // CARDS)))
    updates = work.passes * work.minibatches
    sending = sum(updates * (gradient / link + LATENCY_S[link]) for link in levels)
    rollout = work.episodes * work.response * NUMBERS * SIZE * (cards - 1) / cards
    link = BETWEEN if cards > CARDS else WITHIN
    sent = updates * gradient * len(levels) + rollout / cards
    return Step(computing, sending + (rollout / link if cards > 1 else 0.0), sent)


def table(models: Sequence[Model], work: Work, *, speed: float, divided: float) -> str:
    """Render a model a row, a cluster a column."""
    heads = [f"{cards} card{'s' * (cards > 1)}" if cards <= CARDS else f"{cards // CARDS} x 8" for cards in CLUSTERS]
    rows = [
        f"A projection: {work.episodes} episodes of {work.prompt} + {work.response} tokens, {work.passes} passes of "
        f"{work.minibatches} minibatches; {speed / 1e12:.0f} TFLOP/s reached by a card, {divided:.2f} of a step "
        f"divided, gloo at {WITHIN / 1e9:g} GB/s within a machine and {BETWEEN / 1e9:g} GB/s between machines.",
        "",
        f"| model | {' | '.join(heads)} | sent by each at {heads[-1]} |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for model in models:
        steps = [project(model, work, cards, speed=speed, divided=divided) for cards in CLUSTERS]
        cells = [
            f"{step.seconds:.3g} s"
            + (f" ({steps[0].seconds / step.seconds:.1f} times)" if step is not steps[0] else "")
            for step in steps
        ]
        rows.append(f"| {model.name} | {' | '.join(cells)} | {steps[-1].sent / 1e6:.0f} MB |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflops", type=float, default=312.0, help="of a card, peak; 312 for an A100 in bfloat16")
    parser.add_argument("--utilisation", type=float, default=0.3, help="share of it that is reached")
    parser.add_argument("--divided", type=float, default=0.94, help="share of a step that processes divide")
    given = parser.parse_args()
    text = table(MODELS, Work(), speed=given.tflops * 1e12 * given.utilisation, divided=given.divided)
    write_text(RESULT, text)
    print(text)


if __name__ == "__main__":
    main()
