"""Choose the questions of the next round: sample, pair, look at the pairs with the reward model, choose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf.acquire.params import AcquireParams
from rlhf.acquire.replies import POLICY, ReplyPair, pair_replies, sample_replies, training_prompts
from rlhf.acquire.strategies import Pool, choose
from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.core.seeding import numpy_rng
from rlhf.labels.record import Question
from rlhf.models.fast.engine import load_checked
from rlhf.models.reward.scoring import Row, Scorer, length_batches, load_reward, pooled, read_under, reward_adapters
from rlhf.models.text.prompts import read_shown
from rlhf.models.text.tokens import encode_prompt, encode_response


@dataclass(frozen=True, slots=True)
class Sizes:
    """What acquire takes from other sections: lengths and batches, which change no result but the longest reply."""

    response_tokens: int
    sample_batch: int
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class Queue:
    """What to ask next, in order, and the metrics acquire_*."""

    questions: list[Question]
    metrics: dict[str, object]


def acquire(at: Layout, params: AcquireParams, sizes: Sizes, *, runtime: Runtime, round_: int) -> Queue:
    """Make the questions of the round after `round_`, whose policies and reward model are in `at`.

    Raises:
        UserError: an artifact is missing, no prompt leaves room for a reply, or no two replies differ.
    """
    scorer = _load(at, runtime)
    path = at.pairs / "train.jsonl"
    prompts = training_prompts(path, scorer.backbone, params.prompts, sizes.response_tokens, seed=runtime.seed)
    replies = sample_replies(
        scorer.backbone, prompts, params, response_tokens=sizes.response_tokens, batch_size=sizes.sample_batch,
        stream=(runtime.seed, round_),
    )  # fmt: skip
    pairs = pair_replies(replies, runtime.seed)
    if not pairs:
        raise UserError(
            f"acquire: no two replies to any of {len(prompts)} prompts differ; ask for more acquire.samples, "
            "acquire.policies or acquire.temperatures"
        )
    pool = _pool(scorer, pairs, _labelled(at, scorer) if params.strategy == "d_optimal" else [], sizes.batch_tokens)
    draws = numpy_rng(runtime.seed, "acquire", "choice", round_)
    chosen = choose(params.strategy, pool, params.pairs, draws, ridge=params.ridge, per_prompt=params.per_prompt)
    shown = read_shown(path)
    questions = [_question(pairs[index], shown, round_ + 1) for index in chosen]
    return Queue(questions, _metrics(params, pool, chosen, prompts=len(prompts), round_=round_ + 1))


def _load(at: Layout, runtime: Runtime) -> Scorer:
    reward, adapters = load_reward(at.reward, base=at.base, sft=at.sft), reward_adapters(at.reward, sft=at.sft)
    backbone = load_checked(
        at.base, {**adapters, POLICY: at.ppo}, engine="fast", dtype=runtime.dtype, device=runtime.device,
        decided=at.conformance,
    )  # fmt: skip
    return Scorer(backbone, reward.to(runtime.device), read_under(adapters), {})


def _labelled(at: Layout, scorer: Scorer) -> list[Row]:
    """Rows of the training pairs, chosen and rejected in turn."""
    tokenizer = scorer.backbone.tokenizer
    rows: list[Row] = []
    for _, row in iter_jsonl(at.pairs / "train.jsonl"):
        prompt = encode_prompt(tokenizer, str(row["prompt"]))
        rows += [(prompt, encode_response(tokenizer, str(row[side]))) for side in ("chosen", "rejected")]
    return rows


def _pool(scorer: Scorer, pairs: Sequence[ReplyPair], labelled: Sequence[Row], batch_tokens: int) -> Pool:
    tokenizer = scorer.backbone.tokenizer
    prompts = {pair.prompt: encode_prompt(tokenizer, pair.prompt) for pair in pairs}
    rows: list[Row] = [
        (prompts[pair.prompt], reply.sample.response_ids) for pair in pairs for reply in (pair.a, pair.b)
    ]
    features, scores, members = _measure(scorer, [*rows, *labelled], batch_tokens)
    leads, count = scores[:, 0] - scores[:, 1], len(pairs)
    differences = features[:, 0] - features[:, 1]
    return Pool(
        [pair.prompt for pair in pairs],
        leads[:count],
        (members[:, 0] - members[:, 1])[:count],
        differences[:count],
        np.column_stack((differences, leads))[count:],
    )


@torch.no_grad()
def _measure(
    scorer: Scorer, rows: Sequence[Row], batch_tokens: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute features (N, 2, D), raw scores in logits (N, 2) and those of each head (N, 2, K) of rows in pairs; each
    distinct row once."""
    model = scorer.reward
    keys = [(tuple(prompt), tuple(response)) for prompt, response in rows]
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    distinct = list(place)
    features = torch.zeros(len(distinct), model.feature_size)
    for batch in length_batches([len(p) + len(r) for p, r in distinct], batch_tokens):
        own = pooled(scorer.backbone, [distinct[i] for i in batch], model=model, adapter=scorer.adapter)
        features[batch] = own.cpu()
    lengths = torch.tensor([float(len(response)) for _, response in distinct])
    scores = model.score_features(features, lengths).double().cpu() * model.std
    members = model.member_scores(features).double().cpu()
    where = [place[key] for key in keys]
    half = len(rows) // 2
    return (
        features.double().numpy()[where].reshape(half, 2, -1),
        scores.numpy()[where].reshape(half, 2),
        members.numpy()[where].reshape(half, 2, -1),
    )


def _question(pair: ReplyPair, shown: dict[str, str], round_: int) -> Question:
    return Question(
        prompt=shown[pair.prompt],
        a=pair.a.sample.response,
        b=pair.b.sample.response,
        policy_a=pair.a.policy,
        policy_b=pair.b.policy,
        round=round_,
    )


def _metrics(
    params: AcquireParams, pool: Pool, chosen: Sequence[int], *, prompts: int, round_: int
) -> dict[str, object]:
    """Count, and say how sure the reward model was: the mean over pairs of its probability for the likelier winner."""
    sure = 1 / (1 + np.exp(-np.abs(pool.leads)))
    return {
        "acquire_run": True,
        "acquire_strategy": params.strategy,
        "acquire_round": round_,
        "acquire_prompts": prompts,
        "acquire_pool": len(pool),
        "acquire_pairs": len(chosen),
        "acquire_prompts_asked": len({pool.prompts[index] for index in chosen}),
        "acquire_confidence_pool": float(sure.mean()),
        "acquire_confidence": float(sure[list(chosen)].mean()),
    }
