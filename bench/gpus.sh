#!/bin/bash
# SPDX-License-Identifier: MIT
# Attention over the GPUs of one host, one process a GPU: time, efficiency against one GPU's kernel on the whole sequence,
# exposed communication, memory; each result is checked.  bf16, head_dim 128.
#   bench/gpus.sh BUILD OUT RANKS [NAME…]      names: s16384 s65536 full (default: all)
# RINGX replaces the program of BUILD, LAUNCH scripts/mpirun BUILD RANKS; ITERATIONS (9; s65536 25, whose passes differ
# by 10 to 20 %, as clocks do), WARMUP (3); MORE: options of ringx bench for all (--transport nccl: without copies by the
# GPUs themselves).  OUT gets a CSV and a timeline each.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2 ranks=$3
shift 3
ringx=${RINGX:-$build/tools/ringx/ringx} launch=${LAUNCH:-scripts/mpirun $build $ranks}
read -ra more <<<"${MORE:-}"
[[ $# -gt 0 ]] || set -- s16384 s65536 full
mkdir -p "$out"
bench/machine.sh "$ringx" >"$out/machine.txt"

causal=ringX3,ringX4o,zigzag,ringX2o whole=ringX1o,ringX3b,ring
for name in "$@"; do
    iterations=9
    case $name in
    s16384) shape=(--seq 16384 --heads 32 --kv-heads 32 --causal --preset "$causal") ;;
    s65536) shape=(--seq 65536 --heads 32 --kv-heads 8 --causal --preset "$causal") iterations=25 ;;
    full) shape=(--batch 4 --seq 8192 --heads 32 --kv-heads 32 --preset "$whole") ;;
    *) echo "bench/gpus.sh: no shape '$name'; there are s16384, s65536 and full" >&2 && exit 64 ;;
    esac
    # shellcheck disable=SC2086  # the launcher is several words
    $launch "$ringx" bench --device cuda --dtype bf16 --head-dim 128 --iterations "${ITERATIONS:-$iterations}" \
        --warmup "${WARMUP:-3}" --baseline --csv "$out/$name.csv" --timeline "$out/$name.json" "${shape[@]}" "${more[@]}"
done
