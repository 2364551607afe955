#!/bin/bash
# SPDX-License-Identifier: MIT
# Ranks that are processes without MPI: the same results as ranks that are threads, and what can go wrong.
. "$(dirname "$0")/expect.bash"
data=$(cd "${RINGX_TEST_DATA:-$(dirname "$0")/../data}/attention" && pwd)
unset RINGX_PORT RINGX_JOB RANK WORLD_SIZE MASTER_ADDR MASTER_PORT LOCAL_RANK TORCHELASTIC_USE_AGENT_STORE
unset OMPI_COMM_WORLD_RANK PMIX_RANK PMI_RANK
export RINGX_TIMEOUT=30

# Below those that systems give to connections.
free_port() {
    python3 -c '
import os, socket
for i in range(1000):
    port = 10000 + (os.getpid() * 13 + i) % 20000
    try:
        with socket.socket() as s:
            s.bind(("", port))
        print(port)
        break
    except OSError:
        pass'
}

# ranks NAME arguments…: runs that many; output of rank r in $work/NAME.r, its code in $work/NAME.r.code
ranks() {
    local count=$1 name=$2 port r
    shift 2
    port=$(free_port)
    for ((r = count - 1; r >= 0; r--)); do
        (
            RANK=$r WORLD_SIZE=$count MASTER_ADDR=localhost MASTER_PORT=$port timeout 60 "$RINGX" "$@" >"$work/$name.$r" 2>&1
            echo $? >"$work/$name.$r.code"
        ) &
    done
    wait
}
codes() { # NAME COUNT: "0 0 0"
    local r
    for ((r = 0; r < $2; r++)); do cat "$work/$1.$r.code"; done | paste -sd' '
}

# ---- the same as threads
ranks 3 verify verify --cases 30 --seed 3
"$RINGX" verify --comm threads --cases 30 --seed 3 --ranks 3 >"$work/threads" 2>&1
[ "$(codes verify 3)" = "0 0 0" ] || complain "verify: codes $(codes verify 3)"
cmp -s "$work/threads" "$work/verify.0" || complain "verify: processes do not find what threads find"
[ ! -s "$work/verify.1" ] && [ ! -s "$work/verify.2" ] || complain "verify: ranks other than 0 speak"
grep -q '30 passed, 0 failed' "$work/verify.0" || complain "verify: no verdict"

input=$data/odd_causal.safetensors
"$RINGX" run --input "$input" --output "$work/by_threads" --preset zigzag --ranks 3 >/dev/null || complain "run by threads"
ranks 3 run run --comm env --input "$input" --output "$work/by_processes" --preset zigzag
[ "$(codes run 3)" = "0 0 0" ] || complain "run: codes $(codes run 3)"
cmp "$work/by_threads" "$work/by_processes" || complain "run: processes and threads give different files"

ranks 2 bench bench --preset ringX3 --seq 200 --iterations 1 --json
[ "$(codes bench 2)" = "0 0" ] || complain "bench: codes $(codes bench 2)"
grep -q '"ranks": 2' "$work/bench.0" || complain "bench: not of 2 ranks"

# ---- what goes wrong is said by one rank, or by each that is alone
ranks 3 fault verify --cases 3 --fault 'rank=1,call=5,kind=error'
[ "$(codes fault 3)" = "74 74 74" ] || complain "fault: codes $(codes fault 3)"
grep -q 'fault injected' "$work/fault.0" || complain "fault: is not named"

ranks 2 wrong verify --cases 3 --ranks 3
[ "$(codes wrong 2)" = "64 64" ] || complain "--ranks 3 of 2: codes $(codes wrong 2)"
grep -q 'the environment gives 2' "$work/wrong.0" || complain "--ranks 3 of 2: is not explained"

RANK=5 WORLD_SIZE=3 MASTER_ADDR=localhost MASTER_PORT=9999 expect 64 'RANK is "5"; it must be a number, 0 … 2' verify --cases 1
expect 64 'RANK, WORLD_SIZE, MASTER_ADDR' verify --cases 1 --comm env
port=$(free_port)
RANK=0 WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=$port RINGX_TIMEOUT=0.3 expect 79 'waited .* for rank 1' verify --cases 1
RANK=1 WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=$port RINGX_TIMEOUT=0.3 expect 79 'cannot meet rank 0' verify --cases 1
RANK=0 WORLD_SIZE=1 expect 0 '5 passed' verify --cases 5
RANK=0 WORLD_SIZE=4 expect 0 '5 passed' verify --cases 5 --comm threads

# ---- a rank that is killed: the others end, and say who it was
port=$(free_port)
export WORLD_SIZE=3 MASTER_ADDR=localhost MASTER_PORT=$port
for r in 0 1; do
    { RANK=$r timeout 60 "$RINGX" verify --cases 100000 >"$work/killed.$r" 2>&1; echo $? >"$work/killed.$r.code"; } &
done
RANK=2 "$RINGX" verify --cases 100000 >/dev/null 2>&1 &
victim=$!
sleep 0.7
kill -KILL "$victim"
wait "$victim" 2>/dev/null
wait
[ "$(codes killed 2)" = "69 69" ] || complain "killed: codes $(codes killed 2)"
grep -q 'rank 2' "$work/killed.0" || complain "killed: rank 0 does not name rank 2"
unset WORLD_SIZE MASTER_ADDR MASTER_PORT

# ---- devices
expect 64 'add --device cuda' verify --cases 1 --transport nccl
expect 64 'nearest' verify --cases 1 --transport ncl
finish
