#!/bin/bash
# SPDX-License-Identifier: MIT
# What a benchmark ran on: date, commit, what ringx says of the machine, GPUs.
#   bench/machine.sh RINGX
date -u +%F
git describe --always --dirty 2>/dev/null || true
"$1" info 2>/dev/null | head -n 20 || true
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || true
