"""Report the course of PPO."""

from collections.abc import Iterator

from rlhf.report.content import Block, Section, Text
from rlhf.report.draw import Labels, Series, columns, lines
from rlhf.report.fallback_notice import ended, kept
from rlhf.report.inputs import Inputs
from rlhf.report.wording import HALF, Numbers, percent

Z = 1.96  # of a 95 % interval of a mean
CURVES = (  # name, unit, caption, columns
    (
        "ppo-kl",
        "KL to SFT, nats a response",
        "Distance from SFT",
        {"kl": "k1, unbiased", "kl_k3": "k3, never negative"},
    ),
    ("ppo-entropy", "entropy, nats a token", "Entropy of the policy", {"entropy": "entropy"}),
    ("ppo-length", "length, tokens", "Mean length of the sampled responses", {"length": "length"}),
    ("ppo-clip", "share of tokens", "Tokens clipped in the update", {"clip_fraction": "clipped"}),
    (
        "ppo-value",
        "share of variance",
        "Variance of returns that the value head explains",
        {"explained_variance": "value"},
    ),
    ("ppo-value-loss", "value loss, squared reward", "Loss of the value head", {"value_loss": "value loss"}),
    (
        "ppo-validation",
        "reward, SFT standard deviations",
        "Reward on validation prompts",
        {"validation_reward": "reward"},
    ),
)


def ppo(run: Inputs) -> Section:
    """Say why PPO stopped, and show its curves."""
    n = run.numbers
    rows = run.curve("ppo", "iteration", "score")
    if not rows and "ppo_iterations" not in n:
        return Section("ppo", "PPO", [Text("PPO was not run.")])
    blocks: list[Block] = [Text(text) for text in _ppo_texts(n)]
    if rows:
        blocks += _ppo_curves(run)
    return Section("ppo", "PPO", blocks)


def _ppo_texts(n: Numbers) -> Iterator[str]:
    if "ppo_stop_reason" in n:
        yield (
            f"PPO {ended(n)} after {n.show('ppo_iterations')} iterations on {n.show('ppo_prompts')} prompts; "
            f"{kept(n)}. {n.show('ppo_trainable_parameters')} parameters were trained."
        )
    if n.has("ppo_score_first", "ppo_score_final", "ppo_score_best"):
        yield (
            f"The mean score of the sampled episodes went from {n.show('ppo_score_first')} to "
            f"{n.show('ppo_score_final')} (best {n.show('ppo_score_best')} in iteration "
            f"{n.show('ppo_score_best_iteration')}). The KL to SFT ended at {n.show('ppo_kl_final')} nats a response "
            f"with a coefficient of {n.show('ppo_kl_coef_final')}; the reward that PPO maximises, the score less the "
            f"KL penalty, ended at {n.show('ppo_reward_final')}."
        )
    if n.has("ppo_check_ratio_gap", "ppo_check_sampler_gap"):
        yield (
            f"Before any update the policy ratio was within {n.show('ppo_check_ratio_gap')} of 1, and the "
            f"log-probabilities of sampler and forward pass differed by at most {n.show('ppo_check_sampler_gap')} nats."
        )
    if n.has("ppo_clip_fraction_final", "ppo_explained_variance_final"):
        yield (
            f"In the last update {percent(n['ppo_clip_fraction_final'])} of the tokens were clipped, and the value "
            f"head explained {percent(n['ppo_explained_variance_final'])} of the variance of returns."
        )


def _ppo_curves(run: Inputs) -> Iterator[Block]:
    yield from _score(run)
    for name, y_label, caption, shown in CURVES:
        series = [
            Series(label, *columns(found, "iteration", column))
            for column, label in shown.items()
            if (found := run.curve("ppo", "iteration", column))
        ]
        if series:
            yield lines(series, Labels(name, "iteration", y_label, caption))


def _score(run: Inputs) -> Iterator[Block]:
    rows, paid = run.curve("ppo", "iteration", "score", "score_std"), run.curve("ppo", "iteration", "reward")
    if rows:
        half = [Z * row["score_std"] / run.resolved["ppo"]["batch"] ** HALF for row in rows]
        x, y = columns(rows, "iteration", "score")
        low, high = ([value + side * h for value, h in zip(y, half, strict=True)] for side in (-1, 1))
        series = [Series("score", x, y, low, high)]
        series += [Series("score less KL penalty", *columns(paid, "iteration", "reward"))] if paid else []
        caption = "Score of the sampled episodes, band: 95 % interval of each iteration's mean"
        yield lines(series, Labels("ppo-score", "iteration", "reward, SFT standard deviations", caption))
