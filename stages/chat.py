"""Chat with a run's policies side by side in a terminal: for looking, not for serving."""

import sys

import click

from stages.cli import Run, stage_command


@stage_command("chat", costs=False)
@click.option("--policy", "names", multiple=True, help="base, sft, ppo or offline/<method>; repeat it. All without it.")
@click.option("--prompt", help="Answer this one and end.")
@click.option("--score", is_flag=True, help="With --prompt: reward and KL to SFT of each reply too.")
@click.option("--temperature", type=click.FloatRange(0, 10, min_open=True), help="Of sampling; PPO's without it.")
@click.option("--seed", type=int, help="Of sampling; the run's without it.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="Longest reply; PPO's without it.")
def main(  # noqa: PLR0917 - click passes them by name
    run: Run, names: tuple[str, ...], prompt: str | None, score: bool, temperature: float | None, seed: int | None,
    max_new_tokens: int | None,
) -> None:  # fmt: skip
    """Talk to base, SFT, PPO and the alternatives; /help inside lists the commands.

    Reads artifacts/base, sft, ppo, offline and reward, and params.resolved.json; writes nothing.
    """
    from rlhf.chat.dialogue import Dialogue, Settings
    from rlhf.chat.load import load_cast
    from rlhf.chat.terminal import answer, converse, scores
    from rlhf.core.params import read_resolved
    from rlhf.models.text.spoken import turn_template

    at, known = run.layout, read_resolved(run.layout.resolved)
    run.check_inputs(at.base, at.sft, at.reward, at.ppo, at.artifacts / "offline")
    longest, heat = max_new_tokens or known["ppo"]["response_tokens"], temperature or known["ppo"]["temperature"]
    settings = Settings(longest, heat, known["seed"] if seed is None else seed)
    form = turn_template(known["data"], at.base)
    dialogue = Dialogue(load_cast(at, names, run.runtime()), settings, form)
    write = lambda text: click.echo(text, nl=False)  # noqa: E731 - click flushes: replies are seen as they are made
    if prompt is None:
        converse(dialogue, sys.stdin if not sys.stdin.isatty() else iter(lambda: input("> "), "/quit"), write)
        return
    answer(dialogue, prompt, write)
    if score:
        click.echo(scores(dialogue))


if __name__ == "__main__":
    main()
