"""The leading stage: profile + params.yaml -> params.resolved.json."""

from pathlib import Path

from stages.cli import Run, stage_command


@stage_command("resolve")
def main(run: Run) -> None:
    """Merge the profile under params.yaml, check every value, and write the result.

    Reads params.yaml and profiles/<profile>.yaml; writes params.resolved.json, from which all other stages take their
    parameters. Unknown keys, wrong types and values out of range stop here, before any work; what is allowed and
    seldom meant is noted on stderr.
    """
    import json

    import click

    from rlhf.core.artifacts import write_text
    from rlhf.params import notes, resolve

    resolved = resolve(Path("params.yaml"), Path("profiles"))
    write_text(run.layout.resolved, json.dumps(resolved.stages(), indent=2) + "\n")
    for note in notes(resolved):
        click.echo(f"note: {note}", err=True)


if __name__ == "__main__":
    main()
