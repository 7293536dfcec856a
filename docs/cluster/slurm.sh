#!/bin/bash
# A set evaluated by an array of jobs, and put together by a job that waits for all of them:
#
#   array=$(sbatch --parsable docs/cluster/slurm.sh)
#   sbatch --dependency=afterok:$array --wrap "faprompt-train merge shards/ --json figures.json --html report.html"
#
# A job that died is run again alone: sbatch --array=3 docs/cluster/slurm.sh
#SBATCH --job-name=evaluate
#SBATCH --array=1-4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
set -euo pipefail
# All of them see the same folders, the share's too. With --array=3 alone Slurm counts one job: SHARES says how many there are.
faprompt-train evaluate --bundle "${BUNDLE:?a bundle}" ${SETS:?data sets, with spaces between them} \
  --shard "$SLURM_ARRAY_TASK_ID/${SHARES:-4}" --shards "${OUT:-shards}" --threads "${SLURM_CPUS_PER_TASK:-1}"
