"""Sample replies of several policies to training prompts, and pair those that differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from rlhf.acquire.params import AcquireParams
from rlhf.core.errors import UserError
from rlhf.core.progress import track
from rlhf.core.seeding import rng
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample, sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.scoring import ADAPTER, prompts_that_fit
from rlhf.models.text.prompts import read_prompts

POLICY = "policy"  # the name under which a backbone holds PPO's adapter
ADAPTERS: Mapping[str, str] = {"sft": ADAPTER, "ppo": POLICY}


@dataclass(frozen=True, slots=True)
class Reply:
    """A policy's reply; `policy` is its name with the temperature, as "ppo@0.7"."""

    policy: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class ReplyPair:
    """Two replies to one prompt that differ to a reader."""

    a: Reply
    b: Reply

    @property
    def prompt(self) -> str:
        """Return the prompt as the models read it."""
        return self.a.sample.prompt


def training_prompts(path: Path, backbone: Backbone, count: int, response_tokens: int, *, seed: int) -> list[str]:
    """Read the training prompts that leave room for a reply: at most `count`, drawn by the seed (0: all), in the file's
    order.

    Raises:
        UserError: there is none.
    """
    prompts = read_prompts(path)
    if not prompts:
        raise UserError(f"{path}: empty; at least one prompt is needed")
    fit = prompts_that_fit(backbone, prompts, response_tokens)
    drawn = set(rng(seed, "acquire", "prompts").sample(range(len(fit)), min(count or len(fit), len(fit))))
    return [prompt for index, prompt in enumerate(fit) if index in drawn]


def sample_replies(
    backbone: Backbone,
    prompts: Sequence[str],
    params: AcquireParams,
    *,
    response_tokens: int,
    batch_size: int,
    stream: tuple[int, int],
) -> list[list[Reply]]:
    """Sample `params.samples` replies of each policy at each temperature to each prompt. `stream`: seed and round; a
    draw depends on these, the policy, the temperature, the sample's number and the prompt's."""
    seed, round_ = stream
    found: list[list[Reply]] = [[] for _ in prompts]
    ways = [(p, t, n) for p in params.policies for t in params.temperatures for n in range(params.samples)]
    with track(len(ways), "acquire replies", unit="sample") as bar:
        for policy, temperature, number in ways:
            samples = sample_texts(
                backbone, prompts, Sampling(response_tokens, temperature), adapter=ADAPTERS[policy],
                stream=(seed, "acquire", "replies", round_, policy, f"{temperature:g}", number), batch_size=batch_size,
            )  # fmt: skip
            for replies, sample in zip(found, samples, strict=True):
                replies.append(Reply(f"{policy}@{temperature:g}", sample))
            bar.update()
    return found


def pair_replies(replies: Sequence[Sequence[Reply]], seed: int) -> list[ReplyPair]:
    """Pair each two replies to a prompt that are no empty text and differ to a reader, each pair of texts once; which
    of the two is A is drawn."""
    pairs = []
    for number, own in enumerate(replies):
        draws = rng(seed, "acquire", "sides", number)
        texts: dict[str, Reply] = {}
        for one in own:
            texts.setdefault(one.sample.response.strip(), one)
        texts.pop("", None)
        for first, second in combinations(texts.values(), 2):
            pairs.append(ReplyPair(first, second) if draws.random() < 0.5 else ReplyPair(second, first))
    return pairs
