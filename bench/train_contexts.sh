#!/bin/bash
# SPDX-License-Identifier: MIT
# Does a longer context train as well?  The same model on the same text with the same number of tokens a step, once for
# each context length; their validation losses in one picture.
#   bench/train_contexts.sh BUILD OUT TEXT… [-- KEY=VALUE…]      the texts: plain files, one document each
# LENGTHS ("8192 32768 65536"), each of which divides TOKENS a step (65536); STEPS (160); VOCABULARY (8192), of a
# byte-level BPE trained on the texts; DEVICE (cuda).  Every tenth text comes last: that tenth is for validation.  KEYs
# of the configuration are laid over those below, e.g. num_layers=2 hidden_size=128 precision=fp32.  GPT replaces the
# program of BUILD.  Prints the losses; OUT then has contexts.svg and a log of each length.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -ge 3 ]] || { sed -n '3,10s/^# \{0,1\}//p' "$0" >&2 && exit 64; }
build=$1 out=$2
shift 2
gpt=${GPT:-$build/apps/ringx-gpt} tokens=${TOKENS:-65536} steps=${STEPS:-160} vocabulary=${VOCABULARY:-8192}
texts=()
while [[ $# -gt 0 && $1 != -- ]]; do texts+=("$1") && shift; done
[[ $# -eq 0 ]] || shift
mkdir -p "$out"

if [[ ! -e $out/text_text_document.idx ]]; then
    training=() validation=()
    for i in "${!texts[@]}"; do
        if ((i % 10 == 9)); then validation+=("${texts[i]}"); else training+=("${texts[i]}"); fi
    done
    "$gpt" tokenizer train --input "${training[@]}" --vocab-size "$vocabulary" --invalid-utf8 replace \
        --output "$out/tokenizer.json"
    "$gpt" preprocess --input "${training[@]}" "${validation[@]}" --output-prefix "$out/text" --append-eod --invalid-utf8 replace \
        --tokenizer-type HFTokenizer --vocab-file "$out/tokenizer.json"
fi

logs=()
for seq in ${LENGTHS:-8192 32768 65536}; do
    ((tokens % seq == 0)) || { echo "train_contexts: $seq does not divide $tokens tokens a step" >&2 && exit 64; }
    log=$out/context-$seq.txt
    "$gpt" train -d apps/gpt/configs laptop-10m --set "device=${DEVICE:-cuda}" precision=bfloat16 \
        num_layers=12 hidden_size=768 num_attention_heads=12 num_kv_heads=4 intermediate_size=2048 \
        "data_path=$out/text_text_document" split=90,10,0 "vocab_file=$out/tokenizer.json" \
        "seq_length=$seq" "max_position_embeddings=$seq" "train_micro_batch_size_per_gpu=$((tokens / seq))" \
        optimizer.params.lr=0.0015 min_lr=0.0001 warmup=0.1 "train_iters=$steps" "lr_decay_iters=$steps" \
        "eval_interval=$((steps / 8 > 0 ? steps / 8 : 1))" eval_iters=2 log_interval=10 save=null load=null \
        tensorboard_dir=null "$@" >"$log" 2>&1 || { tail -n 3 "$log" >&2 && exit 1; }
    logs+=("$log")
    sed -nE "s/.*validation results at iteration ([0-9]+).*lm_loss value: ([0-9.eE+-]+).*/$seq tokens, step \1: \2/p" "$log" |
        awk '!seen[$4]++'
done
"$gpt" curves --output "$out/contexts.svg" "${logs[@]}"
