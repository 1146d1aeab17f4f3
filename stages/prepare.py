"""Prepare the preferences: read or make, check, filter and split them; get the tokenizer."""

from stages.cli import Run, stage_command


@stage_command("prepare")
def main(run: Run) -> None:
    """Read (or make) preference pairs, check every row, filter by length, split by prompt; get the tokenizer.

    Reads params.resolved.json and what data.source and base.source name (a file, a folder, a hub at a pinned commit, or
    nothing: the synthetic task). Writes artifacts/prepare/pairs, artifacts/prepare/corpus.jsonl,
    artifacts/prepare/tokenizer, metrics/prepare.json and provenance/prepare.json.
    """
    import click

    from rlhf.base.params import BaseParams
    from rlhf.prepare.build import BaseChoice, asked_replies, prepare, read_from
    from rlhf.prepare.lengths import PromptRoom
    from rlhf.prepare.params import DataParams
    from rlhf.prepare.write import write_prepared

    data, base = run.section("data", DataParams), run.section("base", BaseParams)
    choice = BaseChoice(base.source, base.path, base.repo, base.revision, base.pretrain.context)
    splits = ("train", "validation") if run.value("ppo.validation_every") else ("train",)
    room = PromptRoom(run.value("ppo.max_prompt_tokens"), run.value("ppo.response_tokens"), splits)
    sampled = run.value("sft.sample_tokens") if run.value("sft.samples") else None
    replies = asked_replies(sampled, run.value("evaluate.response_tokens"), run.value("evaluate.split"))
    prepared, at = prepare(data, choice, run.seed, room=room, replies=replies), run.layout
    write_prepared(prepared, at)
    run.finish(prepared.metrics, inputs=read_from(data, choice), outputs=[at.pairs, at.corpus, at.tokenizer])
    for note in (*prepared.notes, prepared.ledger.summary()):
        click.echo(f"prepare: {note}", err=True)


if __name__ == "__main__":
    main()
