#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-gpt convert: from Hugging Face's files to a checkpoint and back, by any ranks, no bit changes.
set -u
: "${RINGX_GPT:?the path of ringx-gpt}" "${RINGX_TEST_DATA:?}"
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
complain() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}
model=$RINGX_TEST_DATA/llama
# Code, words of the one line on standard error, arguments.
refuses() {
    local code=$1 words=$2 got
    shift 2
    "$RINGX_GPT" convert "$@" >"$work/stdout" 2>"$work/stderr"
    got=$?
    [ "$got" -eq "$code" ] || complain "convert $*: exit code $got instead of $code"
    grep -Eq -- "$words" "$work/stderr" || complain "convert $*: no '$words' in: $(cat "$work/stderr")"
}
same() { # two folders of Hugging Face's files
    cmp -s "$1/model.safetensors" "$2/model.safetensors" || complain "the weights of $1 and $2 differ"
    cmp -s "$1/config.json" "$2/config.json" || complain "the configurations of $1 and $2 differ"
}

"$RINGX_GPT" convert --model "$model" --output "$work/direct" || complain "Hugging Face to Hugging Face"
"$RINGX_GPT" convert --model "$model" --to checkpoint --output "$work/one" || complain "to a checkpoint"
"$RINGX_GPT" convert --model "$work/one" --output "$work/back" || complain "from a checkpoint"
same "$work/direct" "$work/back"

build=$(dirname "$(dirname "$RINGX_GPT")")
mpirun=$(dirname "$0")/../../../scripts/mpirun
if grep -q '^RINGX_MPI:BOOL=ON' "$build/CMakeCache.txt" && "$mpirun" "$build" 1 true 2>/dev/null; then
    "$mpirun" "$build" 4 "$RINGX_GPT" convert --model "$model" --model-parallel-size 2 --to checkpoint \
        --output "$work/four" || complain "to a checkpoint by 2 × 2 ranks"
    "$mpirun" "$build" 3 "$RINGX_GPT" convert --model "$work/four" --output "$work/three" || complain "by 3 ranks"
    same "$work/direct" "$work/three"
    "$mpirun" "$build" 2 "$RINGX_GPT" convert --model "$work/one" --model-parallel-size 2 --output "$work/two" ||
        complain "by 2 tensor ranks"
    same "$work/direct" "$work/two"
fi

"$RINGX_GPT" convert --model "$work/one" --dtype bf16 --output "$work/half" || complain "to bf16"
grep -q '"torch_dtype": "bfloat16"' "$work/half/config.json" || complain "the dtype is not said"
"$RINGX_GPT" convert --model "$work/half" --dtype bf16 --output "$work/again" || complain "bf16 to bf16"
same "$work/half" "$work/again"

refuses 64 'model is missing' --output "$work/x"
refuses 64 'output is missing' --model "$model"
refuses 66 'neither config.json nor a checkpoint' --model "$work" --output "$work/x"
refuses 73 'no/such' --model "$model" --output "$work/no/such/folder"
printf 'x' | dd of="$work/one/global_step0/rank_00000.safetensors" bs=1 seek=50000 conv=notrunc 2>/dev/null
refuses 65 'rank_00000' --model "$work/one" --output "$work/x"
[ ! -e "$work/x" ] || complain "a refused conversion left something behind"
[ "$failures" -eq 0 ] || exit 1
echo "all good"
