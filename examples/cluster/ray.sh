#!/usr/bin/env bash
# A sweep on a Ray cluster: one job for each value of the KL coefficient, each with a GPU and a clone of its own.
#
#   RAY_ADDRESS=http://127.0.0.1:8265 REPOSITORY=https://git.example.org/me/rlhf.git SHARED=/mnt/shared ray.sh 0.05 0.1 0.5
#
# SHARED is a folder that every node sees, with the environment in $SHARED/.venv. The remote's credentials are in the
# nodes' own environment: what is given to `ray job submit` is shown on its dashboard.
set -euo pipefail
: "${RAY_ADDRESS:?the address of the cluster}" "${REPOSITORY:?a git address}" "${SHARED:?a folder that every node sees}"

for kl_coef in "$@"; do
  run="kl-${kl_coef/./_}-$(date +%s)"
  # shellcheck disable=SC2016 # the node fills them in, from the variables set before
  ray job submit --no-wait --submission-id "$run" --entrypoint-num-gpus 1 -- env \
    RUN="$run" REPOSITORY="$REPOSITORY" SHARED="$SHARED" CACHE="$SHARED/dvc-cache" STATE="$SHARED/checkpoints" \
    PYTHONHASHSEED=0 KL_COEF="$kl_coef" bash -euc '
      export PATH="$SHARED/.venv/bin:$PATH"
      clone="$(mktemp -d)"
      trap "rm -rf $clone" EXIT
      git clone --quiet "$REPOSITORY" "$clone"
      cd "$clone"
      examples/cluster/job.sh -S "ppo.kl_coef=$KL_COEF"
    '
done
