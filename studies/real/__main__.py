"""`make real`: RLHF on a language model that others trained, SmolLM2-135M-Instruct (`make smollm2-weights` first).

    python -m studies.real [--seeds 0] [--ways penalty free] [--processes 1] [--work .real]

The unit that is there: sentiment (studies/real/sentiment.py). Each row is noted in
benchmarks/results/real_sentiment.{json,md} as soon as its run is made; a stopped study goes on with the same command.
Prompts are looked for in the folder that RLHF_SHARED_DATA names. About an hour of processor time a seed and way.
"""

from studies.command import run_command, run_study
from studies.real import sentiment


def main() -> None:
    run_study("real_sentiment", __doc__, sentiment.plan, sentiment.table, work=".real", ways=tuple(sentiment.WAYS))


if __name__ == "__main__":
    run_command(main)
