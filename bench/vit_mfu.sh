#!/bin/bash
# SPDX-License-Identifier: MIT
# What ringx-vit makes of its devices: trains named configurations for a few steps with several kinds of attention, on
# real fields repeated to full size (bench/make_fields.py), and prints samples a second, MFU and memory beside the plan's:
# own GB is what the program has allocated on a device, peak GB what the fullest GPU had in use (nvidia-smi), driver and
# communicators included, each beside the plan's.
#   bench/vit_mfu.sh BUILD OUT RANKS [NAME:ATTN_TYPE:KEY=VALUE,…]…
#                        e.g. build out 2 mp_emb4096:ringX mp_emb4096:ring mp_p1:megatron:checkpoint_activations=true
# Context parallelism over all ranks. DEVICE (cuda), MACHINE (h200x2), PEAK (989) TFLOP/s of a rank, STEPS (4), of which
# the first is not counted; VIT replaces the program of BUILD, LAUNCH scripts/mpirun BUILD RANKS, STORM a yearly file of
# scripts/fetch-fields; LIMIT: seconds for a training.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2 ranks=$3
shift 3
vit=${VIT:-$build/apps/ringx-vit} steps=${STEPS:-4} device=${DEVICE:-cuda} machine=${MACHINE:-h200x2}
launch=${LAUNCH:-scripts/mpirun $build $ranks}
[[ $# -gt 0 ]] || set -- mp_emb4096:{ringX,ring,megatron} mp_emb1024:{ringX,ring,megatron} mp_p1:{ringX,ring,megatron}
mkdir -p "$out"
if [[ ! -e $out/full/2000.h5 ]]; then
    [[ -n ${STORM:-} ]] || scripts/fetch-fields "$build" "$out" storm >/dev/null
    python3 bench/make_fields.py "${STORM:-$out/storm/train/1996.h5}" "$out/full"
fi

printf '%-12s %-10s %9s %11s %7s %8s %8s %8s %8s %7s %6s  %s\n' name attention 's a step' 'samples/s' 'MFU %' \
    'own GB' 'plan GB' 'peak GB' 'plan GB' 'plan s' 'MFU %' settings
for case in "$@"; do
    IFS=: read -r name type keys <<<"$case::"
    keys=${keys%%:*}
    IFS=, read -r -a more <<<"$keys"
    log=$out/$name-$type.txt watcher=
    common=(--yaml_config apps/vit/configs/ViT.yaml --config "$name" --context_parallel "$ranks" --set
        "attn_type=$type" "device=$device" "peak_theoretical_tflops=${PEAK:-989}" "${more[@]}")
    "$vit" plan "${common[@]}" --ranks "$ranks" --machine "$machine" --memory 1e6 --json >"$log.plan" 2>&1 &
    planner=$!
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 500 >"$log.memory" 2>/dev/null &
        watcher=$!
    fi
    # shellcheck disable=SC2086  # the launcher is several words
    timeout -k 15 "${LIMIT:-600}" $launch "$vit" train "${common[@]}" "num_iters=$steps" print_steps=1 \
        save_path=/dev/null "expdir=$out/logs" "train_data_path=$out/full" valid_data_path=None global_means_path=None \
        global_stds_path=None >"$log" 2>&1 || echo "ended with $?" >>"$log"
    [[ -z $watcher ]] || { kill "$watcher" && wait "$watcher"; } 2>/dev/null || true
    wait "$planner" || true
    number() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$log.plan" | head -n 1; }
    peak=$(sort -n "$log.memory" 2>/dev/null | tail -n 1 || true)
    awk -v name="$name" -v type="$type" -v plan="$(number device_bytes)" -v beside="$(number runtime_bytes)" \
        -v keys="$keys" -v peak="${peak:-0}" -v step="$(number step_s)" -v share="$(number mfu)" '
        match($0, /steps is [0-9.]+/) { s = substr($0, RSTART + 9, RLENGTH - 9); if (n++) { seconds += s; count++ } }
        match($0, /avg [0-9.]+/) && n > 1 { rate += substr($0, RSTART + 4, RLENGTH - 4) }
        match($0, /MFU: [0-9.]+/) && n > 1 { mfu += substr($0, RSTART + 5, RLENGTH - 5) }
        match($0, /forward pass: [0-9.]+/) { memory = substr($0, RSTART + 14, RLENGTH - 14) }
        END { if (!count) exit 1
              printf "%-12s %-10s %9.3f %11.4f %7.2f %8.2f %8.2f %8.2f %8.2f %7.3f %6.1f  %s\n", name, type, seconds / count,
                     rate / count, mfu / count, memory, plan / 1e9, peak * 1.048576e-3, (plan + beside) / 1e9, step,
                     100 * share, keys }' "$log" ||
        tail -n 4 "$log"
done
