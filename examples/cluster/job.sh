#!/usr/bin/env bash
# One job, from inside a fresh clone of its own: what is there comes, what is missing runs, and the results go home.
#
#   job.sh                                     the pipeline; its numbers go to the branch runs/$RUN
#   job.sh -S ppo.kl_coef=0.1 -S ppo.lr=5e-4   one experiment of a sweep, named $RUN; `dvc exp pull` collects it
#
# RUN    a name that no other job has: letters, digits, . _ and -
# CACHE  a folder for DVC's cache that all jobs see ("" = one in this clone)
# STATE  a folder for checkpoints that outlives the clone, so that a job that starts again resumes ("" = none)
# The environment (`make venv`) is on PATH. Credentials of DVC's remote are in the environment, never in a file here.
set -euo pipefail
: "${RUN:?a name that no other job has}"
if ! [[ "$RUN" =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]]; then
  echo "error: RUN: found '$RUN'; letters, digits, . _ and - are allowed" >&2
  exit 2
fi
if ! git config user.email >/dev/null; then # a container knows nobody, and git commits for nobody
  git config user.email "rlhf@localhost"
  git config user.name "rlhf"
fi
git push --quiet --dry-run origin "HEAD:refs/heads/runs/$RUN" # that results cannot go home is found out now, not at the end
if [ -n "${STATE:-}" ]; then export RLHF_CHECKPOINT_DIR="$STATE"; fi
if [ -n "${CACHE:-}" ]; then dvc cache dir --local "$CACHE"; fi

dvc pull
if [ $# -gt 0 ]; then
  dvc exp run --name "$RUN" "$@"
  dvc exp push origin "$RUN"
  exit
fi
dvc repro
dvc push
git switch --quiet --create "runs/$RUN"
git add dvc.lock params.resolved.json metrics plots provenance reports
git commit --quiet --allow-empty --message "Run $RUN"
git push --quiet origin "runs/$RUN"
