#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-gpt curves: one picture of several logs, whatever their iterations; logs without losses are refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
line() { printf -- '----\n %s results at iteration %d | lm_loss value: %s | lm_loss_ppl value: 1E+00 | \n----\n' "$@"; }
{ line validation 10 4.0E+00 && line validation 20 3.0E+00 && line test 20 9.9E+01; } >"$folder/short.txt"
{ line validation 15 2.5E+00 && line validation 20 2.0E+00; } >"$folder/long.txt"
echo nothing >"$folder/empty.txt"

"$RINGX_GPT" curves "$folder/short.txt" "$folder/long.txt" --output "$folder/both.svg"
grep -q '<svg' "$folder/both.svg"
grep -q 'short' "$folder/both.svg"
grep -q 'long' "$folder/both.svg"
[[ $(grep -c '<circle' "$folder/both.svg") -eq 4 ]]

fails() { # code, words of the message, arguments
    local code=0
    "$RINGX_GPT" curves "${@:3}" >"$folder/out" 2>&1 || code=$?
    [[ $code -eq $1 ]] && grep -q -- "$2" "$folder/out" || { echo "not as expected: $*: $code"; cat "$folder/out"; exit 1; }
}
fails 65 "empty.txt: holds no line" "$folder/empty.txt" --output "$folder/none.svg"
fails 65 "short.txt: holds no line 'train" "$folder/short.txt" --chart train --output "$folder/none.svg"
fails 66 "missing.txt" "$folder/missing.txt" --output "$folder/none.svg"
fails 64 "output is missing" "$folder/short.txt"
fails 64 "0 logs" --output "$folder/none.svg"
[[ ! -e $folder/none.svg ]]
