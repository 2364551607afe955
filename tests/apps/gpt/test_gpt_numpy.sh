#!/bin/bash
# SPDX-License-Identifier: MIT
# The indices that the C tests compare with are what NumPy gives, where it is installed.
set -u
: "${RINGX_TEST_DATA:?the folder of test data}"
if ! python3 -c 'import numpy' 2>/dev/null; then
    echo "left out: the Python package numpy is not installed"
    exit 0
fi
python3 "$(dirname "$0")/make_indices.py" | cmp - "$RINGX_TEST_DATA/gpt/indices.json" && echo "NumPy gives the same"
