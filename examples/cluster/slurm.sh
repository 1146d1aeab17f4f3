#!/usr/bin/env bash
#SBATCH --job-name=rlhf
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
# sbatch examples/cluster/slurm.sh                        the pipeline
# sbatch examples/cluster/slurm.sh -S ppo.kl_coef=0.1     one experiment of a sweep
# sbatch --nodes=2 examples/cluster/slurm.sh              PPO over two nodes; $SHARED must be seen by both
#
# REPOSITORY is a git address; SHARED a folder that every node sees, with the environment in $SHARED/.venv.
set -euo pipefail
: "${REPOSITORY:?a git address}" "${SHARED:?a folder that every node sees}"
if [ "$SLURM_NNODES" -gt 1 ] && [ $# -gt 0 ]; then
  echo "error: found $SLURM_NNODES nodes and $*; an experiment of a sweep runs on one node" >&2
  exit 2
fi
export RUN="slurm-$SLURM_JOB_ID" CACHE="$SHARED/dvc-cache" STATE="$SHARED/checkpoints"
export PATH="$SHARED/.venv/bin:$PATH" PYTHONHASHSEED=0 DVC_SITE_CACHE_DIR="$SHARED/dvc-site-cache"
clone="$SHARED/clones/$RUN"
rm -rf "$clone" # of the same job before it was requeued; its checkpoints are in $STATE
git clone --quiet "$REPOSITORY" "$clone"
cd "$clone"

if [ "$SLURM_NNODES" -gt 1 ]; then
  # DVC starts a stage on one machine. So that a stage runs on all nodes they are started here, and DVC records the result.
  export RLHF_CHECKPOINT_DIR="$STATE" PROCESSES="${PROCESSES:-1}" MASTER_PORT="$((20000 + SLURM_JOB_ID % 10000))"
  MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)" # not head, which leaves: scontrol would end by SIGPIPE
  export MASTER_ADDR
  dvc cache dir --local "$CACHE"
  dvc pull
  dvc repro conformance reward # all that PPO reads
  # shellcheck disable=SC2016 # each node fills in its own number
  srun --ntasks-per-node=1 bash -c '
    torchrun --rdzv-backend=static --nnodes="$SLURM_NNODES" --node-rank="$SLURM_NODEID" --nproc-per-node="$PROCESSES" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" -m stages.ppo
  '
  dvc commit --force ppo
fi
examples/cluster/job.sh "$@"
rm -rf "$clone"
