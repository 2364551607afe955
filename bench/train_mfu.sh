#!/bin/bash
# SPDX-License-Identifier: MIT
# How much of a GPU ringx-gpt uses: trains a model with the widths of Llama3-8B, its layers cut to what fits, for a few
# steps at each context length; then times the same attention alone, and prints what it is of a step.
#   bench/train_mfu.sh BUILD OUT [SEQ:LAYERS:KEY=VALUE,…]…      e.g. 32768:12 131072:8:checkpoint_activations=true
# MFU: model FLOPs, causal attention counted once, nothing for recomputation, over PEAK (989) TFLOP/s.  GPT and RINGX
# replace the programs of BUILD; STEPS (6), of which the first two are not counted; PRESET (ringX3).
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2
shift 2
gpt=${GPT:-$build/apps/ringx-gpt} ringx=${RINGX:-$build/tools/ringx/ringx} steps=${STEPS:-6} preset=${PRESET:-ringX3}
[[ $# -gt 0 ]] || set -- 32768:12 65536:10 131072:8
mkdir -p "$out"

# Words drawn at random: the content does not matter for the time.
if [[ ! -e $out/words_text_document.idx ]]; then
    awk 'BEGIN { srand(1); for (i = 0; i < 1200000; i++) printf "%d%s", 1e6 * rand(), i % 20 ? " " : "\n" }' \
        >"$out/words.txt"
    "$gpt" preprocess --input "$out/words.txt" --output-prefix "$out/words" --tokenizer-type CharLevelTokenizer >/dev/null
fi

shares() { # seq layers recompute ms: what attention alone takes of a step of so many ms
    "$ringx" bench --device cuda --preset "$preset" --seq "$1" --heads 32 --kv-heads 8 --head-dim 128 --dtype bf16 \
        --causal --iterations 5 --csv "$out/attention.csv" >/dev/null
    awk -F, -v layers="$2" -v again="$3" -v ms="$4" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        NR > 1 { spent[$at["pass"]] = $at["ms"] }
        END { t = layers * (spent["forward"] * (1 + again) + spent["backward"]); printf "%6.1f", 100 * t / ms }' \
        "$out/attention.csv"
}

printf '%8s %6s %9s %10s %6s %11s %10s  %s\n' tokens layers 'ms a step' 'tokens/s' 'MFU %' 'attention %' 'memory MB' settings
for case in "$@"; do
    IFS=: read -r seq layers keys <<<"$case:"
    keys=${keys%:}
    IFS=, read -r -a more <<<"$keys"
    log=$out/train-$seq-$layers.txt
    "$gpt" train -d apps/gpt/configs llama3-8b-8k --set device=cuda model_parallel_size=1 context_parallel_size=1 \
        "num_layers=$layers" "seq_length=$seq" "max_position_embeddings=$seq" "attention_config=$preset*all" \
        train_micro_batch_size_per_gpu=1 "train_iters=$steps" lr_decay_iters=100 vocab_size=128256 log_interval=1 \
        checkpoint_activations=false mlp_chunk_tokens=16384 loss_chunk_tokens=4096 peak_theoretical_tflops="${PEAK:-989}" \
        "data_path=$out/words_text_document" split=100,0,0 eval_interval=0 eval_iters=0 save=null load=null \
        tensorboard_dir=null "${more[@]}" >"$log" 2>&1 || { tail -n 3 "$log" && continue; }
    again=$([[ $keys == *checkpoint_activations=true* ]] && echo 1 || echo 0)
    read -r ms mfu < <(awk '/elapsed time per iteration/ && ++n > 2 {
        match($0, /iteration \(ms\): [0-9.]+/); ms += substr($0, RSTART + 16, RLENGTH - 16)
        match($0, /MFU: [0-9.]+/); mfu += substr($0, RSTART + 5, RLENGTH - 5); count++ }
        END { printf "%.1f %.2f\n", ms / count, mfu / count }' "$log")
    memory=$(sed -n 's/.*device memory (MB): \([0-9.]*\).*/\1/p' "$log" | tail -n 1)
    printf '%8d %6d %9.1f %10.0f %6.2f %11s %10s  %s\n' "$seq" "$layers" "$ms" "$(awk "BEGIN { print $seq / $ms * 1e3 }")" \
        "$mfu" "$(shares "$seq" "$layers" "$again" "$ms")" "${memory:--}" "$keys"
done
