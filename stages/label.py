"""Let people compare replies in a browser: a command beside the pipeline."""

from pathlib import Path

import click

from stages.cli import Run, stage_command

LABELS = Path("inputs/labels")


@click.group()
def main() -> None:
    """Collect preferences: which of two replies to a prompt is better."""


@stage_command("label", costs=False)
@click.option(
    "--pairs", type=click.Path(path_type=Path), default=Path("artifacts/acquire/pairs.jsonl"), show_default=True,
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
def read(run: Run, sheet: Path, labels: Path) -> None:
    """Take a sheet of answers (.csv, as `export` writes it) in among the labels, as a file of its name."""
    from rlhf.core.artifacts import write_text
    from rlhf.core.errors import UserError
    from rlhf.label.export import import_sheet

    to = labels / f"{sheet.stem}.jsonl"
    if to.exists():
        raise UserError(f"{to}: is there already; labels are only ever added: rename the sheet")
    write_text(to, import_sheet(sheet))
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
main.add_command(export, "export")
main.add_command(read, "import")

if __name__ == "__main__":
    main()
