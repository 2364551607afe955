#!/bin/bash
# SPDX-License-Identifier: MIT
# Attention over 1, 2, 4, … GPUs of one host, one process a GPU: weak scaling (so many tokens a GPU) and strong scaling
# (so many in all), causal, with 32 query heads and 8 or 32 kv heads; and a full mask.  bf16, head_dim 128.  Each result
# is checked, and forecast from the machine description before it is measured; efficiency is against one GPU's kernel on
# the whole sequence.  One GPU runs the first preset alone, since all are the same there; shapes that are the same on so
# many GPUs are measured once.
#   bench/scaling.sh BUILD OUT RANKS…           e.g. bench/scaling.sh build out 1 2 4 8
# OUT gets machine.txt, scaling.csv (a column "shape" before those of ringx bench) and, where Python has matplotlib,
# scaling.svg.
# SHAPES: weak8k weak64k strong64k strong512k full (default: all); KV_HEADS ("8 32"); PRESETS and PRESETS_FULL (default:
# those for the mask); MACHINE (h200x8); ITERATIONS (25, of more than 65536 tokens 5), WARMUP (2); DEVICE (cuda); SCALE:
# divides all tokens, for a try on a CPU.  RINGX replaces the program of BUILD, LAUNCH scripts/mpirun BUILD: it is given
# the number of ranks.
# FORECAST=1: only what is forecast, which needs no GPU: OUT gets forecast.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2
shift 2
ringx=${RINGX:-$build/tools/ringx/ringx} launch=${LAUNCH:-scripts/mpirun $build} scale=${SCALE:-1} device=${DEVICE:-cuda}
causal=${PRESETS:-ringX2o,ringX3,ringX4o,zigzag,megatron,ulysses,usp} whole=${PRESETS_FULL:-ringX1o,ringX3b,ring,ulysses,usp}
mkdir -p "$out"
[[ $# -gt 0 ]] || { echo "bench/scaling.sh: no numbers of ranks; e.g. 1 2 4 8" >&2 && exit 64; }

case_of() { # shape ranks → batch, tokens
    case $1 in
    weak8k) echo 1 $((8192 * $2)) ;;
    weak64k) echo 1 $((65536 * $2)) ;;
    strong64k) echo 1 65536 ;;
    strong512k) echo 1 524288 ;;
    full) echo 4 8192 ;;
    *) echo "bench/scaling.sh: no shape '$1'; there are weak8k, weak64k, strong64k, strong512k and full" >&2 && exit 64 ;;
    esac
}

forecast() { # shape tokens kv-heads, problem and presets
    local shape=$1 tokens=$2 kv=$3
    shift 3
    "$ringx" plan --device "$device" --dtype bf16 --head-dim 128 --batch "$batch" --seq "$tokens" --heads 32 \
        --kv-heads "$kv" --machine "${MACHINE:-h200x8}" --sweep ranks="$ranks" --csv "$out/case.csv" "$@" \
        >"$out/case.txt" || { cat "$out/case.txt" && return; }
    [[ -n $header ]] || { header=1 && sed -n '1s/^/shape,tokens,kv_heads,/p' "$out/case.csv" >"$out/forecast.csv"; }
    sed -n "2,\$s/^/$shape,$tokens,$kv,/p" "$out/case.csv" >>"$out/forecast.csv"
    cat "$out/case.txt"
}

[[ -n ${FORECAST:-} ]] || bench/machine.sh "$ringx" >"$out/machine.txt"
header=
declare -A rows # by what is measured
for ranks in "$@"; do
    for shape in ${SHAPES:-weak8k weak64k strong64k strong512k full}; do
        read -r batch tokens < <(case_of "$shape" "$ranks")
        mask=(--causal --preset "$causal") heads=${KV_HEADS:-8 32}
        [[ $shape != full ]] || mask=(--preset "$whole") heads=32
        for kv in $heads; do
            echo "$shape, $ranks ranks, $((tokens / scale)) tokens, 32:$kv heads"
            if [[ -n ${FORECAST:-} ]]; then
                forecast "$shape" $((tokens / scale)) "$kv" "${mask[@]}"
                continue
            fi
            key="$ranks $batch $tokens $kv"
            [[ $ranks -gt 1 ]] || mask[-1]=${mask[-1]%%,*}
            if [[ -n ${rows[$key]:-} ]]; then
                awk -v shape="$shape" '{ print shape "," $0 }' <<<"${rows[$key]}" >>"$out/scaling.csv"
                continue
            fi
            # shellcheck disable=SC2086  # the launcher is several words
            $launch "$ranks" "$ringx" bench --device "$device" --dtype bf16 --head-dim 128 --batch "$batch" \
                --seq $((tokens / scale)) --heads 32 --kv-heads "$kv" --iterations "${ITERATIONS:-$((tokens > 65536 ? 5 : 25))}" \
                --warmup "${WARMUP:-2}" --baseline --machine "${MACHINE:-h200x8}" --csv "$out/case.csv" "${mask[@]}" \
                >"$out/case.txt" 2>&1 || { cat "$out/case.txt" && continue; }
            [[ -n $header ]] || { header=1 && sed -n '1s/^/shape,/p' "$out/case.csv" >"$out/scaling.csv"; }
            rows[$key]=$(tail -n +2 "$out/case.csv")
            awk -v shape="$shape" '{ print shape "," $0 }' <<<"${rows[$key]}" >>"$out/scaling.csv"
            tail -n +3 "$out/case.txt"
        done
    done
done
rm -f "$out/case.csv" "$out/case.txt"
if [[ -z ${FORECAST:-} ]] && python3 -c 'import matplotlib' 2>/dev/null; then
    python3 bench/plot_scaling.py "$out/scaling.csv" "$out/scaling.svg"
fi
