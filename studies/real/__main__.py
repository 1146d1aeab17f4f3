"""`make real`: RLHF on a language model that others trained, SmolLM2-135M-Instruct (`make smollm2-weights` first).

    python -m studies.real [--seeds 0 1 2] [--units sentiment]

Each unit is noted in benchmarks/results/real.json as soon as it is made; a stopped study goes on with the same command.
Preferences are looked for in the folder that RLHF_SHARED_DATA names.
"""

from studies.command import options, run_command
from studies.real import sentiment
from studies.runner import make


def main() -> None:
    parser = options(__doc__, ".real")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    for run in make([sentiment.run(given.work, seed) for seed in given.seeds], given.processes):
        print(run.folder)


if __name__ == "__main__":
    run_command(main)
