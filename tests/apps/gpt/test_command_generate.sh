#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-gpt generate: every number of ranks, with and without a cache, writes the same; bad input is one line.
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
generate() {
    "$RINGX_GPT" generate --model "$RINGX_TEST_DATA/llama" --tokenizer-type CharLevelTokenizer --maximum-tokens 24 "$@"
}
# Exit code, words on standard error, arguments.
refuses() {
    local code=$1 words=$2 got
    shift 2
    generate "$@" >"$work/stdout" 2>"$work/stderr"
    got=$?
    [ "$got" -eq "$code" ] || complain "generate $*: exit code $got instead of $code"
    grep -Eq -- "$words" "$work/stderr" || complain "generate $*: no '$words' in: $(cat "$work/stderr")"
    [ "$(wc -l <"$work/stderr")" -le 1 ] || complain "generate $*: more than one line"
}

printf 'first prompt\n\nanother one\n' >"$work/prompts"
sampling=(--input "$work/prompts" --temperature 0.8 --top-k 50 --top-p 0.95 --num-samples 2 --seed 5)
generate --prompt 'We the' >"$work/greedy" || complain "greedy"
generate --prompt 'We the' --recompute | cmp -s - "$work/greedy" || complain "without a cache the text is another"
head -c 6 "$work/greedy" | grep -q 'We the' || complain "the text does not begin with its prompt"
[ "$(wc -c <"$work/greedy")" -eq 31 ] || complain "24 new bytes are $(wc -c <"$work/greedy") with prompt and newline"
generate "${sampling[@]}" --output "$work/one.jsonl" || complain "samples"
[ "$(wc -l <"$work/one.jsonl")" -eq 4 ] || complain "2 prompts with 2 samples each are not 4 records"
[ "$(sort -u "$work/one.jsonl" | wc -l)" -eq 4 ] || complain "samples repeat"

build=$(dirname "$(dirname "$RINGX_GPT")")
mpirun=$(dirname "$0")/../../../scripts/mpirun
if grep -q '^RINGX_MPI:BOOL=ON' "$build/CMakeCache.txt" && "$mpirun" "$build" 1 true 2>/dev/null; then
    export RINGX_GPT
    for ranks in 2 3; do
        "$mpirun" "$build" "$ranks" "$RINGX_GPT" generate --model "$RINGX_TEST_DATA/llama" --maximum-tokens 24 \
            --tokenizer-type CharLevelTokenizer --prompt 'We the' 2>"$work/stderr" | cmp -s - "$work/greedy" ||
            complain "$ranks ranks write something else"
    done
    "$mpirun" "$build" 4 "$RINGX_GPT" generate --model "$RINGX_TEST_DATA/llama" --model-parallel-size 2 \
        --maximum-tokens 24 --tokenizer-type CharLevelTokenizer "${sampling[@]}" --output "$work/four.jsonl"
    cmp -s <(sed 's/"duration.*//' "$work/one.jsonl") <(sed 's/"duration.*//' "$work/four.jsonl") ||
        complain "4 ranks draw other samples"
fi

refuses 64 'prompt and input' --prompt a --input "$work/prompts"
refuses 66 'config.json' --model "$work"
refuses 66 'nothing' --input "$work/nothing"
refuses 78 'model-parallel-size is 3' --model-parallel-size 3
refuses 64 'made for 512' --prompt "$(printf 'x%.0s' {1..600})"
refuses 73 'no/such' --output "$work/no/such/file"
mkdir "$work/model"
cp "$RINGX_TEST_DATA/llama/config.json" "$work/model"
refuses 66 'neither model.safetensors' --model "$work/model"
head -c 5000 "$RINGX_TEST_DATA/llama/model.safetensors" >"$work/model/model.safetensors"
refuses 65 'model.safetensors' --model "$work/model"
cp "$RINGX_TEST_DATA/llama/model.safetensors" "$work/model/model.safetensors"
sed -i 's/"intermediate_size": 176/"intermediate_size": 175/' "$work/model/config.json"
refuses 65 'tensor .* has shape .*; it must be' --model "$work/model"
sed -i 's/"num_hidden_layers": 3/"num_hidden_layers": "3"/' "$work/model/config.json"
refuses 65 "'num_hidden_layers' must be an integer" --model "$work/model"
[ "$failures" -eq 0 ] || exit 1
echo "all good"
