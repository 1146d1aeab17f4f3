"""`make rounds ROUNDS=3`: acquire, label, reward, PPO, evaluate, and again, from the artifacts of this project.

    python -m studies.rounds [--rounds 3] [--by simulated] [--annotators 1] [--pairs 200] [--strategy random]

`dvc repro` first. Round k asks about replies of round k - 1's policies. Then the reward model is fitted from scratch on
data.source and all answers up to round k, and PPO starts from the project's SFT policy, with the KL to it; held-out
prompts are never asked about. Each round has a folder with parameters, metrics and marks of its own under .rounds/:
killed at any moment, the same call goes on. With `--by people` it stops while a question is unanswered, and says how to
answer; called again it goes on. About as long as `dvc repro ppo evaluate` a round. Writes
benchmarks/results/rounds.{json,md}.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, write_json, write_text
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.params import read_resolved, read_section
from rlhf.labels.read import read_labels
from rlhf.labels.record import Question
from studies.command import options, run_command, span
from studies.run import PROJECT, Run
from studies.runner import make

FIRST, LATER = ("acquire",), ("prepare", "reward", "ppo", "evaluate", "acquire")  # what a round makes itself
ANSWERS = "answers"  # all answers of all rounds, only ever appended to
SHOWN = ("prepare", "reward", "evaluate", "acquire")  # whose metrics the table shows


class Waiting(Exception):  # noqa: N818 - nothing is wrong
    """People have not answered all questions yet."""


def plan(work: Path, number: int, changes: dict[str, object], start: Run) -> Run:
    """Plan round `number`; round 0 only asks, with the policies and the reward model of `start`."""
    changes = changes | {"acquire.run": True}
    if number:
        labels = {"use": True, "round": number, "path": str(_read_by(work, number))}
        changes |= {f"data.labels.{name}": value for name, value in labels.items()}
    return Run(work / f"round-{number}", changes, LATER if number else FIRST, start=start)


def rounds(
    work: Path, count: int, changes: dict[str, object], *, by: str, annotators: int, start: Run = PROJECT
) -> Iterator[dict[str, Any]]:
    """Make rounds 0 to `count` one after the other, and yield the metrics of each. `changes`: values by dotted keys of
    params.yaml, as "acquire.pairs".

    Raises:
        UserError: a stage failed, or simulated annotators are asked about another task than theirs.
        Waiting: people have not answered all questions of a round yet.
    """
    for number in range(count + 1):
        run = plan(work, number, changes, start)
        if number:
            _freeze(work, number)
        list(make([run], 1))
        yield {"round": number, **measured(run, start)}
        if number < count:
            label(work, run, number + 1, by=by, annotators=annotators)


def label(work: Path, run: Run, number: int, *, by: str, annotators: int) -> None:
    """Have the questions of round `number`, which `run` has chosen, answered."""
    from rlhf.label.serve import read_pairs

    asked = Layout(run.folder).acquire
    questions = read_pairs(asked)
    if by == "simulated":
        _simulate(run, questions, work / ANSWERS, annotators)
        return
    (work / ANSWERS).mkdir(parents=True, exist_ok=True)
    told = {one.question.id for one in read_labels(work / ANSWERS).answers if one.look == 1}
    left = sum(one.id not in told for one in questions)
    if left:
        command = f"python -m stages.label serve --pairs {asked} --labels {work / ANSWERS}"
        raise Waiting(
            f"round {number}: {left} of {len(questions)} questions have no answer yet; answer them with `{command}`, "
            "then give the same command again"
        )


def measured(run: Run, start: Run) -> dict[str, Any]:
    """Read the metrics of a round; of stages that it has not made, those of the run that it starts from."""
    found: dict[str, Any] = {}
    for stage in SHOWN:
        folder = run.folder if stage in run.stages else start.folder
        path = Layout(folder).metrics(stage)
        found |= read_json(path) if path.is_file() else {}
    resolved = read_resolved(run.resolved)
    price = float(resolved["report"]["price_per_comparison"]) * float(found.get("prepare_labels_answers") or 0)
    return found | {"price": price, "currency": resolved["report"]["currency"]}


def table(found: list[dict[str, Any]]) -> str:
    """Render a table of one round a row: what was bought, what it cost, what came of it."""
    rows = [
        "| round | answers so far | agreement | price | reward-model accuracy | gold SFT | gold PPO | proxy PPO | KL |",
        "|---" * 9 + "|",
    ]
    for own in found:
        cells = [
            f"{own['round']}", f"{own.get('prepare_labels_answers', 0)}",
            span(own, "prepare_labels_annotator_agreement"), f"{own['price']:g} {own['currency']}",
            span(own, "reward_accuracy", 3), span(own, "eval_gold_sft"), span(own, "eval_gold_ppo"),
            span(own, "eval_reward_ppo"), span(own, "eval_kl"),
        ]  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _simulate(run: Run, questions: list[Question], answers: Path, annotators: int) -> None:
    from rlhf.label.simulate import Person, simulate
    from rlhf.synthetic.annotator import Annotator
    from rlhf.synthetic.params import SyntheticParams

    resolved = read_resolved(run.resolved)
    if resolved["data"]["source"] != "synthetic":
        raise UserError(
            f"rounds: --by simulated: data.source is {resolved['data']['source']!r}, and only the synthetic task has "
            "annotators of its own; use --by people"
        )
    task = read_section(run.resolved, "data.synthetic", SyntheticParams)
    annotator = Annotator(task.annotator_temperature, task.biases)
    people = [Person(f"sim-{number}", annotator) for number in range(1, annotators + 1)]
    simulate(questions, answers, people, seed=int(resolved["seed"]))


def _read_by(work: Path, number: int) -> Path:
    return work.resolve() / "labels" / f"up-to-{number}"


def _freeze(work: Path, number: int) -> None:
    """Copy the answers up to round `number`, and the questions that were asked, to the folder that this round reads:
    later answers leave it, and what was made of it, as it is."""
    folder = _read_by(work, number)
    for path in sorted((work / ANSWERS).glob("*.jsonl")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _round(line) <= number]
        _write(folder / path.name, "".join(f"{line}\n" for line in lines))
    for before in range(number):
        asked = Layout(work / f"round-{before}").acquire
        _write(folder / "asked" / f"round-{before + 1}.jsonl", asked.read_text(encoding="utf-8"))


def _round(line: str) -> int:
    """The round of an answer. A line that is none counts as of the first, so that whoever reads it names it."""
    try:
        return int(json.loads(line)["round"])
    except (ValueError, TypeError, KeyError):
        return 0


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def main() -> None:
    parser = options(__doc__, ".rounds")
    parser.add_argument("--rounds", type=int, default=3, help="how often labels are bought")
    parser.add_argument("--by", choices=["simulated", "people"], default="simulated", help="who answers")
    parser.add_argument("--annotators", type=int, default=1, help="simulated annotators that answer each question")
    parser.add_argument("--pairs", type=int, default=200, help="questions a round")
    parser.add_argument("--strategy", default="random", help="acquire.strategy")
    given = parser.parse_args()
    found = []
    try:
        asked: dict[str, object] = {"acquire.pairs": given.pairs, "acquire.strategy": given.strategy}
        for own in rounds(given.work, given.rounds, asked, by=given.by, annotators=given.annotators):
            found.append(own)
            write_json(given.out / "rounds.json", found)
            write_text(given.out / "rounds.md", table(found))
    except Waiting as waiting:
        print(waiting)
    print(table(found))


if __name__ == "__main__":
    run_command(main)
