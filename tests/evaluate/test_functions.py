"""Functions as judges: PPO's own source, and a second that PPO never saw."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf.compare.alternatives import best_of_n
from rlhf.core.errors import UserError
from rlhf.evaluate.run import evaluate
from rlhf.measure.function_scorer import BATCH, FunctionScorer
from rlhf.measure.functions import Functions, FunctionSpec
from rlhf.measure.panel import load_panel
from rlhf.measure.params import RefereeParams
from rlhf.measure.policies import measure_policy
from rlhf.models.reward.function_source import FunctionSource
from rlhf.models.reward.scoring import ADAPTER
from rlhf.params import resolve
from tests.evaluate.conftest import World, params
from tests.sft.helpers import cpu

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
def letters(prompts, responses):
    return [float(sum(c.isalpha() for c in text)) for text in responses]
def vowels(prompts, responses):
    return [sum(c in "aeiou" for c in text) / 8 - len(prompt) for prompt, text in zip(prompts, responses)]
def nothing(prompts, responses):
    return [float("nan") for _ in responses]
"""


@pytest.fixture
def functions(tmp_path_factory: pytest.TempPathFactory) -> Functions:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "own.py").write_text(MODULE)
    reward = FunctionSpec("ppo.function", "own:letters", folder, 60.0)
    return Functions(reward, replace(reward, key="referee.function", function="own:vowels"))


def letters(text: str) -> float:
    return float(sum(map(str.isalpha, text)))


def vowels(prompt: str, text: str) -> float:
    return sum(map(text.count, "aeiou")) / 8 - len(prompt)


def test_each_takes_the_place_of_the_reward_model_of_its_role(world: World, functions: Functions) -> None:
    found = evaluate(world(), params(samples=12), cpu(), functions)
    metrics, rows = found.metrics, found.samples
    for policy in ("base", "sft", "ppo"):
        own = [letters(str(row[policy])) for row in rows]
        assert [row[f"{policy}_reward"] for row in rows] == own
        assert metrics[f"eval_reward_{policy}"] == pytest.approx(sum(own) / 12)
        other = [vowels(str(row["prompt"]), str(row[policy])) for row in rows]
        assert metrics[f"eval_referee_{policy}"] == pytest.approx(sum(other) / 12)
    won = [letters(str(row["ppo"])) - letters(str(row["sft"])) for row in rows]
    assert metrics["eval_rm_winrate"] == sum(0.5 + 0.5 * ((gap > 0) - (gap < 0)) for gap in won) / 12
    assert (metrics["eval_reward_by"], metrics["eval_referee_by"]) == ("own:letters", "own:vowels")
    sft = [letters(str(row["sft"])) for row in rows]
    mean = sum(sft) / 12
    assert metrics["eval_reward_std_sft"] == pytest.approx((sum((x - mean) ** 2 for x in sft) / 11) ** 0.5)
    assert [point.referee for point in found.overoptimisation] == [vowels("p", " r")] * 4


def test_best_of_n_chooses_by_ppos_own_source(world: World, functions: Functions) -> None:
    panel = load_panel(world(), {}, params(), cpu(), functions)
    prompts = [f"\n\nHuman: What is a {thing}?\n\nAssistant:" for thing in ("cat", "dog", "cow")]
    sft = measure_policy(panel, prompts, "held-out", ADAPTER)
    four, _ = best_of_n(panel, prompts, [4], sft)[4]
    assert list(four.rewards) == [letters(text) for text in four.texts]
    assert all(best >= one for best, one in zip(four.rewards, sft.rewards, strict=True))
    assert sum(four.rewards) > sum(sft.rewards)
    panel.close()


def test_without_functions_nothing_names_one(world: World) -> None:
    metrics = evaluate(world(), params(samples=0, probes=0), cpu()).metrics
    assert not {"eval_reward_by", "eval_referee_by", "eval_reward_std_sft"} & set(metrics)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("own", "own"),
        ("own:missing", "no function 'missing'"),
        ("other:letters", "no module 'other'"),
        ("own:nothing", "score 0 is nan"),
    ],
)
def test_a_function_that_gives_no_scores_is_one_line(
    world: World, functions: Functions, function: str, words: str
) -> None:
    assert functions.referee is not None
    given = Functions(None, replace(functions.referee, function=function))
    with pytest.raises(UserError, match=words) as caught:
        evaluate(world(), params(), cpu(), given)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_missing_is_named_by_its_parameter(world: World, functions: Functions) -> None:
    assert functions.referee is not None
    given = Functions(None, replace(functions.referee, folder=Path("nowhere")))
    with pytest.raises(UserError, match=r"referee\.function: found 'own:vowels' in 'nowhere'.*referee\.function_path"):
        evaluate(world(), params(), cpu(), given)


def test_they_are_what_the_parameters_say() -> None:
    none = RefereeParams(backbone="artifacts/sft", function="", function_path="there", function_timeout_s=3.0)
    reward = FunctionSpec("ppo.function", "a:b", Path("here"), 2.0)
    assert Functions.of("function", "a:b", "here", 2.0, none) == Functions(reward, None)
    other = none.model_copy(update={"function": "c:d"})
    referee = FunctionSpec("referee.function", "c:d", Path("there"), 3.0)
    assert Functions.of("model", "", "here", 2.0, other) == Functions(None, referee)
    assert resolve(ROOT / "params.yaml", ROOT / "profiles").referee.function == ""


class Asked(FunctionSource):
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def score_texts(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        self.sizes.append(len(prompts))
        return [float(len(self.sizes))] * len(responses)


def test_each_distinct_text_is_asked_once() -> None:
    asked = Asked()
    scorer = FunctionScorer("f", asked)
    texts = [str(k) for k in range(BATCH + 2)]
    first = scorer.score_texts(["p"] * len(texts), texts)
    assert scorer.score_texts(["p", "q", "p"], ["0", "0", "0"]) == [first[0], 3.0, first[0]]
    assert asked.sizes == [BATCH, 2, 1]
