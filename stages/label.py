"""Let people compare replies in a browser: a command beside the pipeline."""

from collections.abc import Callable
from pathlib import Path

import click

from stages.cli import Run, stage_command

LABELS = Path("inputs/labels")
PAIRS = Path("artifacts/acquire/pairs.jsonl")


def endpoint_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say whom a command asks. What none of them says is as in `evaluate.judge`."""
    for option in (
        click.option("--budget-tokens", type=click.IntRange(1), help="Of this run, questions and answers."),
        click.option(
            "--budget-requests", type=click.IntRange(1), help="Of this run; what was answered before is free."
        ),
        click.option("--requests-per-minute", type=click.FloatRange(0), help="At most; 0 = no limit of our own."),
        click.option("--timeout-s", type=click.FloatRange(0, min_open=True), help="Seconds for a whole answer."),
        click.option("--attempts", type=click.IntRange(1, 20), help="Of each request."),
        click.option("--max-tokens", type=click.IntRange(1), help="Longest answer."),
        click.option("--temperature", type=click.FloatRange(0, 2), help="Of answers."),
        click.option("--key-env", help="Environment variable that holds the key; never the key itself."),
        click.option("--model", help="Name of the model there."),
        click.option("--endpoint", help="Address of an OpenAI-compatible API, as http://127.0.0.1:8000/v1."),
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """Collect preferences: which of two replies to a prompt is better."""


@stage_command("label", costs=False)
@click.option(
    "--pairs", type=click.Path(path_type=Path), default=PAIRS, show_default=True,
    help="The pairs to ask about: JSON lines with prompt, a and b.",
)  # fmt: skip
@click.option(
    "--labels", type=click.Path(path_type=Path), default=LABELS, show_default=True,
    help="The folder that keeps the answers.",
)  # fmt: skip
@click.option(
    "--guidelines", type=click.Path(path_type=Path), default=LABELS / "guidelines.md", show_default=True,
    help="A text of your own that stands beside each question.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Of 127.0.0.1; 0 = any.")
@click.option("--overlap", type=click.IntRange(0), default=20, show_default=True, help="Pairs that everybody is asked.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of pairs and of sides.")
def serve(  # noqa: PLR0917 - click passes them by name
    run: Run, pairs: Path, labels: Path, guidelines: Path, port: int, overlap: int, seed: int
) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C. Every answer is on disk before the next pair is shown."""
    from rlhf.label.serve import read_guidelines, read_pairs
    from rlhf.label.serve import serve as run_server
    from rlhf.label.session import Session

    session = Session.start(read_pairs(pairs), labels, seed=seed, overlap=overlap)
    run_server(session, port=port, guidelines=read_guidelines(guidelines), say=click.echo)


@stage_command("label", costs=False)
@click.option("--pairs", type=click.Path(path_type=Path), default=PAIRS, show_default=True, help="As of `serve`.")
@click.option("--labels", type=click.Path(path_type=Path), default=LABELS, show_default=True, help="Folder.")
@click.option(
    "--guidelines", type=click.Path(path_type=Path), default=LABELS / "guidelines.md", show_default=True,
    help="The text that people see too.",
)  # fmt: skip
@click.option("--annotator", help="Its name among the annotators; made of the model's without it.")
@click.option(
    "--logprobs", type=click.IntRange(0, 20), default=20, show_default=True,
    help="Alternatives to each token that the endpoint is asked for; 0 = answers alone.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what it would cost; ask nothing.")
@click.option("--price-asked", type=click.FloatRange(0), help="With --dry-run: of a million tokens of questions.")
@click.option("--price-answered", type=click.FloatRange(0), help="With --dry-run: of a million tokens of answers.")
@endpoint_options
def ai(  # noqa: PLR0917 - click passes them by name
    run: Run, pairs: Path, labels: Path, guidelines: Path, annotator: str | None, logprobs: int, dry_run: bool,
    price_asked: float | None, price_answered: float | None, **options: object,
) -> None:  # fmt: skip
    """Let a language model label: each pair in both orders, as probabilities where the endpoint gives them."""
    from rlhf.judge.cache import Cache
    from rlhf.label.ai import Annotator, annotator_name, label_pairs
    from rlhf.label.dry_run import Price, plan
    from rlhf.label.endpoint import check_key, make_endpoint
    from rlhf.label.serve import read_guidelines, read_pairs

    endpoint = make_endpoint(run.value("evaluate.judge") or {}, options, logprobs=logprobs)
    questions, name = read_pairs(pairs), annotator or annotator_name(endpoint.params.model)
    say = lambda text: click.echo(text, err=True)  # noqa: E731
    machine = Annotator(name, endpoint, Cache(run.layout.judge_cache), read_guidelines(guidelines), say)
    if dry_run:
        priced = price_asked is not None or price_answered is not None
        click.echo(plan(questions, machine, labels, Price(price_asked or 0, price_answered or 0) if priced else None))
        return
    check_key(endpoint)
    for line in label_pairs(questions, machine, labels).lines(machine, labels):
        click.echo(line)


@stage_command("label", costs=False)
@click.option("--policy", help="A policy of the run writes: base, sft, ppo or offline/<method>; else an endpoint.")
@click.option(
    "--constitution", "path", type=click.Path(path_type=Path), default=LABELS / "constitution.yaml", show_default=True,
    help="Your principles; a default set where there is no such file.",
)  # fmt: skip
@click.option(
    "--prompts", type=click.Path(path_type=Path), default=Path("artifacts/prepare/pairs/train.jsonl"),
    show_default=True, help="JSON lines with prompt.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="Prompts, drawn by the seed.")
@click.option("--rounds", type=click.IntRange(1, 10), default=1, show_default=True, help="Of critique and revision.")
@click.option("--seed", type=int, help="Of prompts, principles and a policy's sampling; the run's without it.")
@click.option("--labels", type=click.Path(path_type=Path), default=LABELS, show_default=True, help="Folder.")
@click.option(
    "--judge", type=click.Choice(["gold", "model", "referee", "reward", "none"]),
    help="Who says whether revisions are better; without it the most trusted one that is there and did not write them.",
)  # fmt: skip
@click.option("--judged", type=click.IntRange(1), default=200, show_default=True, help="At most so many pairs a round.")
@endpoint_options
def constitution(  # noqa: PLR0917 - click passes them by name
    run: Run, policy: str | None, path: Path, prompts: Path, count: int, rounds: int, seed: int | None, labels: Path,
    judge: str | None, judged: int, **options: object,
) -> None:  # fmt: skip
    """Let answers be criticised and revised by principles: each (first answer, revision) is a label, and measured."""
    from rlhf.core.params import read_resolved
    from rlhf.label.constitute import constitute

    at, known = run.layout, read_resolved(run.layout.resolved)
    run.check_inputs(at.pairs, at.base, at.sft, at.ppo, at.reward, at.referee, at.artifacts / "offline")
    lines = constitute(
        at, known, run.runtime, {"policy": policy, "judge": judge, **options}, constitution=path, prompts=prompts,
        count=count, rounds=rounds, seed=known["seed"] if seed is None else seed, labels=labels, judged=judged,
        say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    for line in lines:
        click.echo(line)


@stage_command("label", costs=False)
@click.option("--labels", type=click.Path(path_type=Path), default=LABELS, show_default=True, help="File or folder.")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="A .csv or a .jsonl.")
def export(run: Run, labels: Path, to: Path) -> None:
    """Write labels as a sheet (.csv, an answer a row) or as preferences (.jsonl: prompt, chosen, rejected)."""
    from rlhf.label.export import export as write
    from rlhf.labels.read import read_labels

    found = read_labels(labels)
    click.echo(found.summary(), err=True)
    click.echo(write(found.answers, to))


@stage_command("label", costs=False)
@click.argument("sheet", type=click.Path(path_type=Path))
@click.option("--labels", type=click.Path(path_type=Path), default=LABELS, show_default=True, help="Folder.")
@click.option("--annotator", help="Of a .jsonl: whose answers these are; its name without it.")
def read(run: Run, sheet: Path, labels: Path, annotator: str | None) -> None:
    """Take answers in among the labels, as a file of its name: a .csv as `export` writes it, or a .jsonl of
    preferences (prompt, chosen, rejected)."""
    from rlhf.core.artifacts import write_text
    from rlhf.core.errors import UserError
    from rlhf.label.export import import_preferences, import_sheet

    to = labels / f"{sheet.stem}.jsonl"
    if to.exists():
        raise UserError(f"{to}: is there already; labels are only ever added: rename the sheet")
    usual = sheet.suffix == ".jsonl"
    write_text(to, import_preferences(sheet, annotator or sheet.stem) if usual else import_sheet(sheet))
    click.echo(f"{to}")


@stage_command("label", costs=False)
@click.option(
    "--pairs", type=click.Path(path_type=Path), default=Path("artifacts/acquire/pairs.jsonl"), show_default=True,
    help="The pairs to ask about: JSON lines with prompt, a and b.",
)  # fmt: skip
@click.option(
    "--labels", type=click.Path(path_type=Path), default=LABELS, show_default=True,
    help="The folder that keeps the answers.",
)  # fmt: skip
@click.option("--annotators", type=click.IntRange(1, 100), default=1, show_default=True, help="How many there are.")
@click.option(
    "--temperature", type=click.FloatRange(0, min_open=True), help="Their noise; data.synthetic's by default."
)
@click.option("--flattery", type=float, help="Logits for a reply that flatters; data.synthetic.biases' by default.")
@click.option("--length", type=float, help="Logits for every ten words; data.synthetic.biases' by default.")
@click.option("--keyword-logit", type=float, help="Logits for the keyword; data.synthetic.biases' by default.")
@click.option(
    "--tie-band", type=click.FloatRange(0, 0.5), default=0.0, show_default=True,
    help="A probability this near to one half is a tie.",
)  # fmt: skip
def simulate(run: Run, pairs: Path, labels: Path, annotators: int, tie_band: float, **own: float | None) -> None:
    """Let simulated annotators of the offline task answer: gold with noise, and the biases that are planted."""
    from rlhf.core.errors import UserError
    from rlhf.core.params import check
    from rlhf.label.serve import read_pairs
    from rlhf.label.simulate import Person
    from rlhf.label.simulate import simulate as answer
    from rlhf.synthetic.annotator import Annotator
    from rlhf.synthetic.params import SyntheticParams

    if run.value("data.source") != "synthetic":
        raise UserError(
            f"label simulate: data.source is {run.value('data.source')!r}; only the synthetic task has a gold"
        )
    task = run.section("data.synthetic", SyntheticParams)
    names = {"flattery": "flattery", "length": "length_per_10_words", "keyword_logit": "keyword_logit"}
    planted = {name: own[key] for key, name in names.items() if own[key] is not None}
    values = task.model_dump() | {"biases": task.biases.model_dump() | planted}
    values |= {} if own["temperature"] is None else {"annotator_temperature": own["temperature"]}
    task = check(SyntheticParams, values, where="label simulate", key="data.synthetic")
    annotator = Annotator(task.annotator_temperature, task.biases)
    people = [Person(f"sim-{number}", annotator, tie_band) for number in range(1, annotators + 1)]
    given = answer(read_pairs(pairs), labels, people, seed=run.seed)
    click.echo(f"{labels}: {given} answers by {annotators} simulated annotators")


main.add_command(serve, "serve")
main.add_command(simulate, "simulate")
main.add_command(ai, "ai")
main.add_command(constitution, "constitution")
main.add_command(export, "export")
main.add_command(read, "import")

if __name__ == "__main__":
    main()
