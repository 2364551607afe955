#!/bin/bash
# SPDX-License-Identifier: MIT
# Correctness on the machine itself: random cases over all ranks of the job, each against the float64 definition.
#   sbatch --nodes=2 --ntasks-per-node=8 --account=… scripts/slurm/verify.sh
#SBATCH --job-name=ringx-verify
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.log
set -euo pipefail
command -v ringx >/dev/null || { echo "ringx is not in PATH: module load ringx, or PATH=<prefix>/bin:\$PATH" >&2 && exit 66; }
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} RINGX_TIMEOUT=${RINGX_TIMEOUT:-120}
srun --cpus-per-task="$OMP_NUM_THREADS" ringx verify --comm mpi --cases "${CASES:-500}" --seed "$SLURM_JOB_ID"
