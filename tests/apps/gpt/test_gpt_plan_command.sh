#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-gpt plan: what it says is what training then allocates; refusals; comparisons; what makes a run fit.
set -u
: "${RINGX_GPT:?the path of ringx-gpt}" "${RINGX_TEST_DATA:?}"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
complain() {
    echo "FAILED: $1"
    tail -5 "$work/output"
    failures=$((failures + 1))
}
shipped=$RINGX_TEST_DATA/../../apps/gpt/configs
plan() { # arguments…
    "$RINGX_GPT" plan -d "$shipped" "$@" >"$work/output" 2>&1
}
says() { # code, words, arguments…
    local code=$1 words=$2 got
    shift 2
    plan "$@"
    got=$?
    [ "$got" -eq "$code" ] || complain "$*: exit code $got instead of $code"
    grep -Eq -- "$words" "$work/output" || complain "$*: no '$words'"
}

# ---- the same bytes as training
cat >"$work/small.yml" <<'YAML'
{
  "num_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "num_kv_heads": 2, "intermediate_size": 64,
  "seq_length": 48, "tokenizer_type": "CharLevelTokenizer", "make_vocab_size_divisible_by": 1,
  "checkpoint_activations": true, "checkpoint_in_cpu": true, "bf16": {"enabled": true}, "train_iters": 1,
  "train_micro_batch_size_per_gpu": 2, "log_interval": 1, "eval_iters": 0, "data-path": "text_text_document",
}
YAML
cp "$0" "$work/a.txt"
"$RINGX_GPT" preprocess --input "$work/a.txt" --output-prefix "$work/text" --tokenizer-type CharLevelTokenizer \
    >"$work/output" 2>&1 || complain "preprocess"
"$RINGX_GPT" train -d "$work" small --set split=100,0,0 >"$work/output" 2>&1 || complain "training"
line=$(sed -nE 's/^ memory of the rank that holds most: ([0-9]+) bytes on the device, ([0-9]+) in host memory$/\1 \2/p' \
    "$work/output")
"$RINGX_GPT" plan -d "$work" small --json >"$work/output" 2>&1 || complain "a plan as JSON"
planned=$(sed -nE 's/^  "(device|host)_bytes": ([0-9]+),$/\2/p' "$work/output" | tr '\n' ' ')
[ -n "$line" ] && [ "$line " = "$planned" ] || complain "training holds $line, the plan says $planned"

# ---- shipped configurations on a described machine
says 0 '^fits: [0-9.]+ of 139\.00 GiB a rank; .*tokens/s, MFU [34][0-9]\.[0-9] % of 989 TFLOP/s$' llama3-8b-1m --machine h200x8
grep -q 'tensor 1 × context 128 × data 1' "$work/output" || complain "the layout of 1m"
says 0 'planned with model_parallel_size=1 context_parallel_size=64$' llama3-8b-1m --machine h200x8 --gpus 64
says 0 'tensor 2 × context 2 × data 2' llama3-8b-8k --machine h200x8 --gpus 8
says 1 '^checkpoint_in_cpu=true .* yes ' llama3-8b-512k --machine h200x2 --gpus 2
grep -q '^does not fit: ' "$work/output" || complain "512k on two GPUs does not fit"
says 1 'no change that was tried makes it fit' llama3-8b-8k --machine h200x2 --gpus 1 --memory 0.001
says 0 "the machine's memory is not known" laptop-1m

# ---- refusals are those of training
says 78 'model_parallel_size 3 does not divide num_kv_heads 8' llama3-8b-8k --set model_parallel_size=3
says 78 '8 ranks are no multiple of model_parallel_size 1 × context_parallel_size 3' llama3-8b-1m --gpus 8 --set \
    context_parallel_size=3
says 78 "unknown key 'seq_len'" llama3-8b-1m --set seq_len=3
says 64 'at least one YAML file' --gpus 2
says 64 "gpus .*1 " llama3-8b-1m --gpus 0
says 64 "machine 'h200x3' is unknown" llama3-8b-1m --machine h200x3
says 66 'there is no such file' llama3-8b-1m --machine ./nowhere.yaml

# ---- comparisons
says 0 '^ringX3 .* best *$' llama3-8b-128k --machine h200x8 --gpus 8 --preset ringX2o,ringX3,megatron --csv "$work/p.csv"
[ "$(head -1 "$work/p.csv")" = 'preset,gib,fits,step_s,forward_s,backward_s,exposed_s,wire_mib,mfu,remark' ] ||
    complain "the first line of CSV"
[ "$(wc -l <"$work/p.csv")" -eq 4 ] || complain "the lines of CSV"
says 0 '^ +1 +2 +4 .* best$' llama3-8b-128k --machine h200x8 --gpus 8 --layouts --set zero_optimization.stage=1
[ "$(grep -cE '^ +[1248] +[1248] +[1248] +(3|6|12|24) ' "$work/output")" -eq 10 ] || complain "the layouts of 8 ranks"
says 0 '^auto ' laptop-1m --ranks 2 --preset all --set context_parallel_size=2

[ "$failures" -eq 0 ] || exit 1
echo "ringx-gpt plan: as training"
