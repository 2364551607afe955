#!/bin/bash
# SPDX-License-Identifier: MIT
# Every preset, verified and timed over all ranks of the job; the table goes to a CSV file named after the job.
#   sbatch --nodes=4 --ntasks-per-node=8 --account=… scripts/slurm/bench.sh [more options of ringx bench]
#   SEQ=262144 HEADS=32 KV_HEADS=8 DIM=128 DTYPE=bf16 DEVICE=cuda PRESETS=ringX3,ringX4o,zigzag sbatch …
#SBATCH --job-name=ringx-bench
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail
command -v ringx >/dev/null || { echo "ringx is not in PATH: module load ringx, or PATH=<prefix>/bin:\$PATH" >&2 && exit 66; }
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} RINGX_TIMEOUT=${RINGX_TIMEOUT:-120}
presets=${PRESETS:-ringX1o,ringX2o,ringX3,ringX3b,ringX4o,ring,zigzag,stripe,megatron,ulysses,usp}
srun --cpus-per-task="$OMP_NUM_THREADS" ringx bench --comm mpi --device "${DEVICE:-cpu}" --preset "$presets" \
    --seq "${SEQ:-65536}" --heads "${HEADS:-32}" --kv-heads "${KV_HEADS:-8}" --head-dim "${DIM:-128}" \
    --dtype "${DTYPE:-bf16}" --causal --csv "ringx-bench-$SLURM_JOB_ID.csv" "$@"
