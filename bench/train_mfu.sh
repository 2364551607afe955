#!/bin/bash
# SPDX-License-Identifier: MIT
# What ringx-gpt makes of its devices: trains a model with the widths of Llama3-8B, as many layers as each case says, for
# a few steps at each context length, then times the same attention alone, and prints both beside what ringx-gpt plan
# says of the same configuration.
#   bench/train_mfu.sh BUILD OUT [SEQ:LAYERS:KEY=VALUE,…]…      e.g. 32768:12 131072:8:checkpoint_activations=true
#   RANKS=2 bench/train_mfu.sh BUILD OUT 131072:32:checkpoint_activations=true
# MFU: model FLOPs of all ranks, causal attention counted once, nothing for recomputation, over PEAK (989) TFLOP/s each.
#   attention   its share of a step, from its time alone; 0 with ATTENTION=0
#   exposed     waits for transfers in attention, and sums of gradients, of a step
#   own GiB     that the program has allocated on a device
#   peak GiB    that the fullest GPU had in use (nvidia-smi), driver and communicators included; plan GiB beside both
# RANKS (1) = TP (1) × CP (the rest), of one sample; ZERO (1 with several ranks, else 0); PRESET (ringX3); STEPS (6), of
# which the first SKIP (2, 1 of less than four) are not counted; MACHINE (h200x2); DEVICE (cuda).  GPT and RINGX replace
# the programs of BUILD, LAUNCH replaces scripts/mpirun BUILD RANKS; LIMIT: seconds for a training.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2
shift 2
gpt=${GPT:-$build/apps/ringx-gpt} ringx=${RINGX:-$build/tools/ringx/ringx} steps=${STEPS:-6} preset=${PRESET:-ringX3}
ranks=${RANKS:-1} tp=${TP:-1} device=${DEVICE:-cuda} machine=${MACHINE:-h200x2}
cp=${CP:-$((ranks / tp))} zero=${ZERO:-$((ranks > 1))} skip=${SKIP:-$((steps < 4 ? 1 : 2))}
launch=${LAUNCH:-}
[[ -n $launch || $ranks -eq 1 ]] || launch="scripts/mpirun $build $ranks"
[[ $# -gt 0 ]] || set -- 32768:12 65536:10 131072:8
mkdir -p "$out"

# Words drawn at random: the content does not matter for the time.
data=${DATA:-$out/words_text_document}
if [[ ! -e $data.idx ]]; then
    awk 'BEGIN { srand(1); for (i = 0; i < 1200000; i++) printf "%d%s", 1e6 * rand(), i % 20 ? " " : "\n" }' \
        >"$out/words.txt"
    "$gpt" preprocess --input "$out/words.txt" --output-prefix "$out/words" --tokenizer-type CharLevelTokenizer >/dev/null
fi

# The attention of a layer alone: forward, backward and exposed milliseconds of a step of so many layers.
attention() { # seq layers recompute
    [[ ${ATTENTION:-1} -ne 0 ]] || { echo 0 0 && return; }
    # shellcheck disable=SC2086  # the launcher is several words
    timeout -k 15 "${LIMIT:-600}" $launch "$ringx" bench --device "$device" --preset "$preset" --seq "$1" \
        --heads $((HEADS / tp)) --kv-heads $((KV_HEADS / tp)) --head-dim 128 --dtype bf16 --causal --iterations 3 \
        --warmup 1 --csv "$out/attention.csv" >"$out/attention.txt" 2>&1 || { echo 0 0 && return; }
    awk -F, -v layers="$2" -v again="$3" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        NR > 1 { ms[$at["pass"]] = $at["ms"]; exposed[$at["pass"]] = $at["exposed_ms"] }
        END { print layers * (ms["forward"] * (1 + again) + ms["backward"]),
                    layers * (exposed["forward"] * (1 + again) + exposed["backward"]) }' "$out/attention.csv"
}
HEADS=32 KV_HEADS=8

printf '%8s %6s %9s %9s %6s %11s %9s %8s %8s %8s %8s %7s %6s  %s\n' tokens layers 'ms a step' 'tokens/s' 'MFU %' \
    'attention %' 'exposed %' 'own GiB' 'plan GiB' 'peak GiB' 'plan GiB' 'plan ms' 'MFU %' settings
for case in "$@"; do
    IFS=: read -r seq layers keys <<<"$case:"
    keys=${keys%:}
    IFS=, read -r -a more <<<"$keys"
    log=$out/train-$seq-$layers-tp$tp.txt watcher=
    configuration=(-d apps/gpt/configs llama3-8b-8k --set "device=$device" "model_parallel_size=$tp"
        "context_parallel_size=$cp" "num_layers=$layers" "seq_length=$seq" "max_position_embeddings=$seq"
        "attention_config=$preset*all" "zero_optimization.stage=$zero" train_micro_batch_size_per_gpu=1
        "train_iters=$steps" lr_decay_iters=100 log_interval=1 "peak_theoretical_tflops=${PEAK:-989}")
    for default in vocab_size=128256 checkpoint_activations=false partition_activations=false mlp_chunk_tokens=16384 loss_chunk_tokens=4096 \
        tensorboard_dir=null; do
        [[ ,$keys == *,${default%=*}=* ]] || configuration+=("$default")
    done
    configuration+=("${more[@]}")
    "$gpt" plan "${configuration[@]}" --gpus "$ranks" --machine "$machine" --memory 1e6 --json >"$log.plan" 2>&1 &
    planner=$!
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 500 >"$log.memory" 2>/dev/null &
        watcher=$!
    fi
    # shellcheck disable=SC2086
    timeout -k 15 "${LIMIT:-600}" $launch "$gpt" train "${configuration[@]}" "data_path=$data" split=100,0,0 \
        eval_interval=0 eval_iters=0 save=null load=null >"$log" 2>&1 || echo "ended with $?" >>"$log"
    [[ -z $watcher ]] || { kill "$watcher" && wait "$watcher"; } 2>/dev/null || true
    wait "$planner" || true
    again=$([[ ,$keys == *,checkpoint_activations=true* ]] && echo 1 || echo 0)
    read -r count ms mfu sums < <(awk -v skip="$skip" '
        /elapsed time per iteration/ && ++n > skip {
            match($0, /iteration \(ms\): [0-9.]+/); ms += substr($0, RSTART + 16, RLENGTH - 16)
            match($0, /MFU: [0-9.]+/); mfu += substr($0, RSTART + 5, RLENGTH - 5); count++ }
        /backward-allreduce: / && n > skip { match($0, /allreduce: [0-9.]+/); sums += substr($0, RSTART + 11, RLENGTH - 11) }
        END { if (count) printf "%d %.1f %.2f %.1f\n", count, ms / count, mfu / count, sums / count; else print 0, 0, 0, 0 }' "$log")
    if [[ $count -eq 0 ]]; then
        tail -n 4 "$log"
        continue
    fi
    [[ $(tail -n 1 "$log") != ended\ with* ]] || tail -n 2 "$log"
    number() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$log.plan" | head -n 1; }
    own=$(sed -n 's/.*holds most: \([0-9]*\) bytes on the device.*/\1/p' "$log")
    peak=$(sort -n "$log.memory" 2>/dev/null | tail -n 1 || true)
    read -r spent waits < <(attention "$seq" "$layers" "$again")
    awk -v seq="$seq" -v layers="$layers" -v ms="$ms" -v mfu="$mfu" -v sums="$sums" -v spent="$spent" -v waits="$waits" \
        -v own="${own:-0}" -v peak="${peak:-0}" -v plan="$(number device_bytes)" \
        -v beside="$(number runtime_bytes)" -v step="$(number step_s)" -v share="$(number mfu)" -v keys="$keys" '
        BEGIN { printf "%8d %6d %9.1f %9.0f %6.2f %11.1f %9.2f %8.2f %8.2f %8.2f %8.2f %7.0f %6.1f  %s\n", seq, layers, ms,
            seq / ms * 1e3, mfu, 100 * spent / ms, 100 * (waits + sums) / ms, own / 2 ^ 30, plan / 2 ^ 30,
            peak / 1024, (plan + beside) / 2 ^ 30, 1e3 * step, 100 * share, keys }'
done
