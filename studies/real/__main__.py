"""`make real`: RLHF on a language model that others trained, SmolLM2-135M-Instruct (`make smollm2-weights` first).

    python -m studies.real sentiment [--seeds 0] [--ways penalty free] [--processes 1] [--work .real]
    python -m studies.real polite    [--seeds 0]
    python -m studies.real helpful   [--seeds 0] [--ways reward policies alternatives tuned]
                                             (after `make minilm-weights` too)
    python -m studies.real chat      [--seeds 0]

Each unit has a module here that says what it is. Each row is noted in benchmarks/results/real_<unit>.{json,md} as soon
as its run is made; a stopped study goes on with the same command. Data is looked for in the folder that
RLHF_SHARED_DATA names. About an hour of processor time a seed and way.
"""

import sys

from rlhf.core.errors import UserError
from studies.command import run_command, run_study
from studies.real import chat, helpful, polite, sentiment

UNITS = ("sentiment", "polite", "helpful", "chat")


def main() -> None:
    unit = sys.argv[1] if len(sys.argv) > 1 else ""
    if unit in ("-h", "--help"):
        print(__doc__)
        return
    if unit not in UNITS:
        units = ", ".join(UNITS)
        raise UserError(f"found {unit or 'no unit'}, units: {units}; as python -m studies.real {UNITS[0]}")
    del sys.argv[1]
    if unit == "sentiment":
        ways = tuple(sentiment.WAYS)
        found, out = run_study("real_sentiment", __doc__, sentiment.plan, sentiment.table, work=".real", ways=ways)
        sentiment.draw(found, out / "real_sentiment.png")
    elif unit == "polite":
        run_study("real_polite", __doc__, polite.plan, polite.table, work=".real")
    elif unit == "helpful":
        run_study("real_helpful", __doc__, helpful.plan, helpful.table, work=".real", ways=helpful.WAYS)
    else:
        run_study("real_chat", __doc__, chat.plan, chat.table, work=".real")


if __name__ == "__main__":
    run_command(main)
