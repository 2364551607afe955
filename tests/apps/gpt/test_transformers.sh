#!/bin/bash
# SPDX-License-Identifier: MIT
# Models between ringx-gpt and Hugging Face transformers, where that is installed.
set -u
: "${RINGX_GPT:?the path of the ringx-gpt program}"
export OMP_NUM_THREADS=1
if ! python3 -c 'import torch, transformers' 2>/dev/null; then
    echo "left out: the Python packages torch and transformers are not installed"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$(dirname "$0")/check_transformers.py" "$RINGX_GPT" "$work" 2>"$work/stderr" || {
    tail -5 "$work/stderr"
    exit 1
}
