"""Prepare the preferences: read or make, check, filter and split them; get the tokenizer."""

from stages.cli import Run, stage_command


@stage_command("prepare")
def main(run: Run) -> None:
    """Read (or make) preference pairs, check every row, filter by length, split by prompt; get the tokenizer.

    Reads params.resolved.json and what data.source and base.source name (a file, a folder, a hub at a pinned commit, or
    nothing: the synthetic task). Writes artifacts/prepare/pairs, artifacts/prepare/corpus.jsonl,
    artifacts/prepare/tokenizer, metrics/prepare.json and provenance/prepare.json.
    """
    from pathlib import Path

    import click

    from rlhf.base.params import BaseParams
    from rlhf.prepare.build import OOD, BaseChoice, prepare
    from rlhf.prepare.lengths import PromptRoom
    from rlhf.prepare.params import DataParams
    from rlhf.prepare.room import Reply
    from rlhf.prepare.write import write_prepared

    data, base = run.section("data", DataParams), run.section("base", BaseParams)
    choice = BaseChoice(base.source, base.path, base.repo, base.revision, base.pretrain.context)
    splits = ("train", "validation") if run.value("ppo.validation_every") else ("train",)
    room = PromptRoom(run.value("ppo.max_prompt_tokens"), run.value("ppo.response_tokens"), splits)
    asked = run.value("evaluate.response_tokens")
    replies = [
        Reply("sft.sample_tokens", run.value("sft.sample_tokens") if run.value("sft.samples") else None, "test"),
        Reply("evaluate.response_tokens", asked, run.value("evaluate.split")),
        Reply("evaluate.response_tokens", asked, OOD),
    ]
    prepared = prepare(data, choice, run.seed, room=room, replies=replies)
    at = run.layout
    write_prepared(prepared, at)
    read = [Path(data.path)] if data.source == "files" else []
    read += [Path(base.path)] if base.source == "path" and base.path else []
    run.finish(prepared.metrics, inputs=read, outputs=[at.pairs, at.corpus, at.tokenizer])
    for note in prepared.notes:
        click.echo(f"prepare: {note}", err=True)
    click.echo(f"prepare: {prepared.ledger.summary()}", err=True)


if __name__ == "__main__":
    main()
