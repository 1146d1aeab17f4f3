import math
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.artifacts import read_jsonl, sha256_tree, write_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from tests.offline.helpers import Plain, run
from tests.sft.helpers import row

Make = Callable[..., Layout]


def margins(at: Layout, method: str, split: str) -> list[tuple[float, float]]:
    """Of each pair: the chosen response's log p / ref less the rejected one's, of sums and of means over tokens."""
    policy, reference = Plain(at.base, at.offline(method)), Plain(at.base, at.sft)
    found = []
    for pair in read_jsonl(at.pairs / f"{split}.jsonl"):
        sums, means = [], []
        for key in ("chosen", "rejected"):
            ours, theirs = (one.logprobs(pair["prompt"], pair[key]) for one in (policy, reference))
            sums.append(sum(ours) - sum(theirs))
            means.append(sums[-1] / len(ours))
        found.append((sums[0] - sums[1], means[0] - means[1]))
    return found


def test_dpo_is_equation_7_with_the_sft_policy_as_reference(project: Make) -> None:
    at = project()
    metrics = run(at, "dpo", beta=0.3)
    found = [margin for margin, _ in margins(at, "dpo", "validation")]
    by_hand = sum(math.log1p(math.exp(-0.3 * margin)) for margin in found) / len(found)
    assert metrics["validation_loss"] == pytest.approx(by_hand, rel=1e-4)
    assert metrics["validation_accuracy"] == sum(margin > 0 for margin in found) / len(found)
    assert by_hand < math.log(2) - 0.05  # its value before the first step


def test_ipo_is_equation_17_on_means_over_tokens(project: Make) -> None:
    at = project()
    metrics = run(at, "ipo", beta=0.5)
    found = [mean for _, mean in margins(at, "ipo", "validation")]
    by_hand = sum((mean - 1 / (2 * 0.5)) ** 2 for mean in found) / len(found)
    assert metrics["validation_loss"] == pytest.approx(by_hand, rel=1e-4)
    assert by_hand < 1.0 - 0.05  # its value before the first step


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_weights_and_margins_of_pairs_by_hand(project: Make, method: str) -> None:
    """DPO: -log sigmoid(beta x margin over the reference - m), weighted; IPO: weighted, and no other margin."""
    at = project()
    said = [{"weight": 0.5 + index % 3, "margin": 0.4 * (index % 4)} for index in range(12)]
    for split, start, count in (("train", 0, 12), ("validation", 100, 5)):
        write_jsonl(at.pairs / f"{split}.jsonl", [row(start + k) | said[k] for k in range(count)])
    metrics = run(at, method, beta=0.3)
    losses = [
        math.log1p(math.exp(one["margin"] - 0.3 * total)) if method == "dpo" else (mean - 1 / 0.6) ** 2
        for one, (total, mean) in zip(said, margins(at, method, "validation"), strict=False)
    ]
    shares = [one["weight"] for one in said[:5]]
    by_hand = sum(share * loss for share, loss in zip(shares, losses, strict=True)) / sum(shares)
    assert metrics["validation_loss"] == pytest.approx(by_hand, rel=1e-4)
    assert abs(by_hand - sum(losses) / 5) > 1e-3  # the weights show


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_targets_of_pairs_by_hand(project: Make, method: str) -> None:
    """The expected loss where chosen is the better one with the probability `target`."""
    at = project()
    targets = [(0.5, 0.75, 1.0)[index % 3] for index in range(12)]
    for split, start, count in (("train", 0, 12), ("validation", 100, 5)):
        write_jsonl(at.pairs / f"{split}.jsonl", [row(start + k) | {"target": targets[k]} for k in range(count)])
    metrics = run(at, method, beta=0.3)
    losses = []
    for target, (total, mean) in zip(targets, margins(at, method, "validation"), strict=False):
        if method == "dpo":
            both = math.log1p(math.exp(-0.3 * total)), math.log1p(math.exp(0.3 * total))
        else:
            both = (mean - 1 / 0.6) ** 2, (-mean - 1 / 0.6) ** 2
        losses.append(target * both[0] + (1 - target) * both[1])
    assert metrics["validation_loss"] == pytest.approx(sum(losses) / 5, rel=1e-4)


def test_a_target_out_of_range_is_named(project: Make) -> None:
    at = project()
    write_jsonl(at.pairs / "train.jsonl", [row(0), row(1) | {"target": 0.2}])
    with pytest.raises(UserError, match=r"train.jsonl:2: target: expected 0.5 to 1"):
        run(at, "dpo")


def test_weights_of_one_train_as_without_them(project: Make) -> None:
    """Our own loss, which weights need, against trl's."""
    found = []
    for name, weight in (("plain", 1.0), ("weighted", 1.0 + 1e-7)):
        at = project(name)
        write_jsonl(at.pairs / "train.jsonl", [row(k) | {"weight": weight if k else 1.0} for k in range(12)])
        found.append(run(at, "dpo", epochs=2))
    assert found[1]["validation_loss"] == pytest.approx(found[0]["validation_loss"], rel=1e-5)
    assert found[1]["train_loss"] == pytest.approx(found[0]["train_loss"], rel=1e-5)


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_the_first_step_moves_the_margin_up(project: Make, method: str) -> None:
    at = project()
    one_step = {"batch_size": 12, "eval_every": 1}
    metrics = run(at, method, epochs=1, lr=1e-4, shared=one_step)
    start = math.log(2) if method == "dpo" else 1.0
    assert metrics["best_step"] == 1
    assert metrics["train_loss"] == pytest.approx(start, rel=1e-5)  # the policy begins as its reference
    found = [margin for margin, _ in margins(at, method, "train")]
    assert 0 < sum(found) / len(found) < 1


@pytest.mark.thorough
def test_a_dearer_distance_keeps_nearer_to_sft(project: Make) -> None:
    def distance(beta: float) -> float:
        at = project(f"beta{beta}")
        run(at, "dpo", beta=beta, epochs=6)
        return sum(margin for margin, _ in margins(at, "dpo", "train"))

    assert distance(5.0) < distance(0.05)


def test_same_seed_same_bytes(project: Make) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        at = project(name)
        metrics = run(at, "dpo", seed=seed)
        hashes.append((sha256_tree(at.offline("dpo") / "adapter_model.safetensors"), metrics))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_nothing_but_the_adapter_moves_and_nothing_else_is_written(project: Make) -> None:
    at = project()
    before = {path: sha256_tree(path) for path in (at.base, at.sft, at.reward, at.pairs)}
    metrics = run(at, "dpo")
    assert {path: sha256_tree(path) for path in before} == before
    written = {path.name for path in at.offline("dpo").iterdir()}
    assert written == {
        "adapter_config.json", "adapter_model.safetensors", "curve.csv", "policy.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    assert metrics["tokens_sampled"] == 0
    tokens = [len(Plain(at.base, at.sft).logprobs(p["prompt"], p[key]))
              for p in read_jsonl(at.pairs / "train.jsonl") for key in ("chosen", "rejected")]  # fmt: skip
    assert metrics["tokens_trained"] == 2 * sum(tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejected": 3}, "train.jsonl:2: rejected: expected text, found 3"),
        ({"prompt": None}, "train.jsonl:2: prompt: expected text, found None"),
        ({"margin": -1}, "train.jsonl:2: margin: expected a number of 0 or more, found -1"),
        ({"chosen": " very" * 200}, "train.jsonl:2: prompt and reply have .* the model's context is 128"),
    ],
)
def test_bad_lines_are_named(project: Make, change: dict[str, object], message: str) -> None:
    at = project()
    write_jsonl(at.pairs / "train.jsonl", [row(0), row(1) | change])
    with pytest.raises(UserError, match=message):
        run(at, "dpo")
    assert not at.offline("dpo").exists()


def test_an_empty_file_and_a_missing_adapter_are_named(project: Make) -> None:
    at = project()
    write_jsonl(at.pairs / "validation.jsonl", [])
    with pytest.raises(UserError, match=r"validation\.jsonl: empty"):
        run(at, "dpo")
    Path(at.sft / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"sft: no adapter_model\.safetensors; the stage sft writes it"):
        run(at, "ipo")
