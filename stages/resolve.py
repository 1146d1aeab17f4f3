"""Resolve the parameters, as the leading stage: profile + params.yaml -> params.resolved.json."""

from pathlib import Path

import click

from stages.cli import Run, stage_command


@stage_command("resolve")
@click.option(
    "--explain", is_flag=False, flag_value="", metavar="[NAME]", help="Explain a parameter and write nothing."
)
def main(run: Run, explain: str | None) -> None:
    """Merge the profile under params.yaml, check every value, and write the result.

    Reads params.yaml and profiles/<profile>.yaml; writes params.resolved.json, from which all other stages take their
    parameters. Unknown keys, wrong types and values out of range stop here, before any work, as does a sentence encoder
    (referee.backbone) that cannot be read; what is seldom meant is noted. --explain alone lists differences.
    """
    from rlhf.core.experiment import check_inputs_came
    from rlhf.core.start import begin
    from rlhf.params import check_encoder, notes, resolve

    if explain is not None:
        from rlhf.explain import Files, differences
        from rlhf.explain import explain as lines_about

        click.echo("\n".join(lines_about(explain, Files()) if explain else differences(Files())))
        return
    resolved = resolve(Path("params.yaml"), Path("profiles"))
    check_inputs_came(resolved.stages())
    check_encoder(resolved)
    begin(run.layout, resolved.stages())
    for note in notes(resolved):
        click.echo(f"note: {note}", err=True)


if __name__ == "__main__":
    main()
