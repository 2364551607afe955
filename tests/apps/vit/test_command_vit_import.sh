#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-vit import and picture as commands: what they print and write, and how they end.
set -euo pipefail
vit=$RINGX_VIT
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
wrong() {
    echo "wrong: $1" >&2
    exit 1
}
ends() { # code, what the message holds, arguments…
    local code=0 expected=$1 part=$2
    shift 2
    "$vit" "$@" >out 2>&1 || code=$?
    [[ $code == "$expected" ]] || wrong "$* ended with $code, not $expected: $(cat out)"
    [[ -z $part ]] || grep -qF -- "$part" out || wrong "$* says '$(cat out)', not '$part'"
}

# A classic netCDF file: t(time 6, lat 4, lon 5), hours since 1990-12-31, 12 apart; written byte by byte.
word() { printf '%08x' "$1"; }
name() { printf '%08x%s' "${#1}" "$(printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n')$(printf '%*s' $(((4 - ${#1} % 4) % 4 * 2)) '' | tr ' ' 0)"; }
text() { echo "$(name "$1")$(word 2)$(name "$2")"; }
declare -A floats=([-20]=c1a00000 [-10]=c1200000 [0]=00000000 [10]=41200000 [20]=41a00000 [30]=41f00000)
head="43444601$(word 0)$(word 10)$(word 3)$(name time)$(word 6)$(name lat)$(word 4)$(name lon)$(word 5)$(word 0)$(word 0)"
variables() { # bytes before the data
    local at=$1
    echo "$(word 11)$(word 4)"
    echo "$(name time)$(word 1)$(word 0)$(word 12)$(word 1)$(text units "hours since 1990-12-31")$(word 4)$(word 24)$(word "$at")"
    echo "$(name lat)$(word 1)$(word 1)$(word 12)$(word 1)$(text units degrees_north)$(word 5)$(word 16)$(word $((at + 24)))"
    echo "$(name lon)$(word 1)$(word 2)$(word 12)$(word 1)$(text units degrees_east)$(word 5)$(word 20)$(word $((at + 40)))"
    echo "$(name t)$(word 3)$(word 0)$(word 1)$(word 2)$(word 12)$(word 1)$(text units K)$(word 5)$(word 480)$(word $((at + 60)))"
}
before=$(((${#head} + $(variables 0 | tr -d '\n' | wc -c)) / 2))
{
    echo "$head"
    variables "$before"
    for ((i = 0; i < 6; i++)); do word $((12 * i)); done
    for v in -20 -10 0 10; do echo "${floats[$v]}"; done
    for v in -20 -10 0 10 20; do echo "${floats[$v]}"; done
    for ((i = 0; i < 120; i++)); do word $((0x43800000 + i * 0x8000)); done # 256, 257, …
} | tr -d '\n' | sed 's/../\\x&/g' >bytes
printf '%b' "$(cat bytes)" >t.nc

ends 0 'For the configuration' import --input t.nc:t=t2m --output data --valid-years 1991
grep -qE '^t2m +K +275\.5000 +11\.5434 +0 +0\.00$' out || wrong "the table of channels: $(cat out)"
grep -q 'data/train: 1 files, 2 steps' out && grep -q 'data/valid: 1 files, 4 steps' out || wrong "parts: $(cat out)"
grep -q 'img_size: \[4, 5\]' out || wrong "img_size: $(cat out)"
[[ $(stat -c %s data/stats/global_means.npy) == 132 ]] || wrong "the size of global_means.npy"
[[ ! -e data/test ]] || wrong "a folder for a part without steps"

ends 0 '' picture --data data/valid --channel t2m --date "1991-01-01 12:00" --lead 1 --output map.png --width 900
[[ $(od -An -tx1 -N 8 map.png) == ' 89 50 4e 47 0d 0a 1a 0a' ]] || wrong "map.png is not a PNG"
[[ $((16#$(od -An -tx1 -j 16 -N 4 map.png | tr -d ' '))) == 900 ]] || wrong "the width of map.png"

ends 64 'lead is 9; the file has 3 steps after this one' picture --data data/valid --lead 9 --output x.png
ends 64 "there is no channel 'msl'" picture --data data/valid --channel msl --output x.png
ends 64 "the fields have no date '1999'; they go from 1991-01-01 00:00 to 1991-01-02 12:00" \
    picture --data data/valid --date 1999 --output x.png
ends 66 'cannot be read' picture --data nowhere --output x.png
ends 64 'output is missing' import --input t.nc
ends 64 'input is missing' import --output data2
ends 64 "the nearest is '--valid-years'" import --valid-yaers 3
[[ ! -e x.png && ! -e data2 ]] || wrong "something was written by a command that failed"
