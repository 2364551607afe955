#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-gpt evaluate: perplexity as an independent program has it (make_scores.py), on any ranks; multiple choice.
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
model=(--model "$RINGX_TEST_DATA/llama" --tokenizer-type CharLevelTokenizer)
# Exit code, words of the output, arguments.
expect() {
    local code=$1 words=$2 got
    shift 2
    "$RINGX_GPT" evaluate "${model[@]}" "$@" >"$work/output" 2>&1
    got=$?
    [ "$got" -eq "$code" ] || complain "evaluate $*: exit code $got instead of $code: $(cat "$work/output")"
    grep -Eq -- "$words" "$work/output" || complain "evaluate $*: no '$words' in: $(cat "$work/output")"
}

printf 'The state of the union is strong.' >"$work/text"
expect 0 '^loss +6\.1085' --input "$work/text" --seq-length 10 --output "$work/results.json"
grep -q '"tokens": 32' "$work/results.json" || complain "32 tokens are predicted, not: $(cat "$work/results.json")"
expect 0 '^tokens +64' --input "$work/text" "$work/text"

build=$(dirname "$(dirname "$RINGX_GPT")")
mpirun=$(dirname "$0")/../../../scripts/mpirun
if grep -q '^RINGX_MPI:BOOL=ON' "$build/CMakeCache.txt" && "$mpirun" "$build" 1 true 2>/dev/null; then
    for tensor in 1 2; do
        "$mpirun" "$build" $((2 * tensor)) "$RINGX_GPT" evaluate "${model[@]}" --model-parallel-size "$tensor" \
            --input "$work/text" --seq-length 10 >"$work/output" 2>&1
        grep -Eq '^loss +6\.1085' "$work/output" || complain "$tensor tensor ranks: $(cat "$work/output")"
    done
fi

item='{"context": "The state of", "choices": [" the union", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], "label": '
{ echo "$item 0}"; echo; echo "$item 1}"; echo "$item 0}"; } >"$work/choices"
expect 0 '^acc +0\.666667' --choices "$work/choices"
expect 0 '^items +2' --choices "$work/choices" --limit 2
expect 64 'nothing to evaluate'
expect 66 'nothing' --input "$work/nothing"
expect 66 'nothing' --data-path "$work/nothing"
echo "$item 2}" >"$work/choices"
expect 65 "line 1: it must have" --choices "$work/choices"
printf '%s 0}\n{"context": 3}\n' "$item" >"$work/choices"
expect 65 "line 2: it must have" --choices "$work/choices"
printf '%s 0}\n{"context"' "$item" >"$work/choices"
expect 65 "line 2: " --choices "$work/choices"
[ "$failures" -eq 0 ] || exit 1
echo "all good"
