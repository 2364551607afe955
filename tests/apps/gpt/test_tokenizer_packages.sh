#!/bin/bash
# SPDX-License-Identifier: MIT
# Ids of ringx-gpt tokenizer against those of the PyPI packages tokenizers and tiktoken, where they are installed.
set -u
: "${RINGX_GPT:?the path of the ringx-gpt program}" "${RINGX_TEST_DATA:?the folder of test data}"
here=$(cd "$(dirname "$0")" && pwd)
if ! python3 -c 'import tokenizers, tiktoken' 2>/dev/null; then
    echo "left out: the Python packages tokenizers and tiktoken are not installed"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$here/check_packages.py" "$RINGX_GPT" "$work" "$RINGX_TEST_DATA/gpt/multilingual.txt"
