#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx plan, bench and info: tables, JSON, CSV, drawings, calibration.
. "$(dirname "$0")/expect.bash"
cd "$work" || exit 1

expect 0 'ringX3 .*kvgather' info
expect 0 '' info --json
json 'len(j["presets"]) >= 14 and any(k["available"] for k in j["kernels"]) and j["machine"]["fma_peak_gflops"] > 0.1'

expect 0 'forward' plan --preset all --ranks 3 --seq 101 --causal --prove
grep -Eq 'steps, [0-9]+ tiles' stdout || complain "nothing proved"
expect 0 '' plan --preset ringX3,usp --ranks 64 --seq 1m --dtype bf16 --machine h200x8 --json
json '[(p["preset"], p["pass"]) for p in j["plans"]] == [(n, p) for n in ("ringX3", "usp") for p in ("forward", "backward")]'
json 'all(p["forecast_ms"] > 0 and p["workspace_mib"] > 0 and 0 < p["efficiency"] <= 1 for p in j["plans"])'
expect 0 "" plan --preset ringX3 --ranks 512 --seq 256k --heads 1 --forward-only --machine frontier
expect 0 "" plan --preset zigzag --ranks 128 --seq 10007 --prove --machine frontier
expect 0 '' plan --preset ringX4o,ring --ranks 3 --seq 64 --timeline draw.svg
for file in draw-ringX4o.svg draw-ring.svg; do
    head -c 5 $file | grep -q '<svg\|<?xml' || complain "$file is no SVG"
done
expect 0 '' plan --preset ring --ranks 3 --seq 64 --timeline draw.json
python3 -m json.tool draw.json >/dev/null || complain "draw.json is no JSON"
expect 0 '' plan --preset ring,ringX3 --sweep ranks=1,2,4,seq=1k,2k --plot sweep.svg --csv sweep.csv --plot-y efficiency
python3 -c 'import xml.dom.minidom as m; d = m.parse("sweep.svg"); assert len(d.getElementsByTagName("polyline")) == 4' ||
    complain "sweep.svg"
[ "$(wc -l <sweep.csv)" -eq 13 ] && head -1 sweep.csv | grep -q '^preset,ranks,seq,forward_ms' || complain "sweep.csv"
expect 73 'nowhere/x.svg' plan --preset ring --timeline nowhere/x.svg
expect 73 'nowhere/x.svg' plan --preset ring --sweep ranks=1,2 --plot nowhere/x.svg
expect 73 'nowhere/x.csv' plan --preset ring --sweep ranks=1,2 --csv nowhere/x.csv
expect 66 'there is no such file' plan --preset ring --machine ./nowhere.yaml
echo 'name: [' >bad.yaml
expect 65 'bad.yaml' plan --preset ring --machine ./bad.yaml
if "$RINGX" info --json | grep -q '"cuda-ref"'; then # on paper no GPU is needed
    expect 64 "kernel 'cpu_ref' is for another device" plan --device cuda --preset ring --kernel cpu_ref
    expect 0 'kvgather' plan --device cuda --preset ringX3 --ranks 4 --seq 64k --heads 32 --dtype bf16 --prove
    expect 0 'qbcast' plan --device cuda --preset ringX1o --ranks 2 --seq 64k --heads 32 --dtype bf16 --prove
else
    expect 78 'cuda' plan --device cuda --preset ring
fi

expect 0 'GFLOP/s a rank' bench --seq 200 --ranks 2 --heads 2 --iterations 2 --baseline --causal --csv bench.csv
[ "$(wc -l <bench.csv)" -eq 31 ] || complain "bench.csv"
expect 0 '' bench --seq 301 --ranks 3 --heads 4 --kv-heads 2 --iterations 2 --docs 0,37,101,290 --window 40,-1 --softcap 20 \
    --dropout 0.1 --dtype bf16 --preset ringX2o,usp --json --timeline bench.json --slices 2 --lookahead 2 --machine local
json '[(r["preset"], r["pass"]) for r in j["rows"]] == [(n, p) for n in ("ringX2o", "usp") for p in ("forward", "backward")]'
json 'all(r["ms"] > 0 and 0 < r["error"] < 0.1 and r["forecast_ms"] > 0 for r in j["rows"])'
python3 -m json.tool bench-usp.json >/dev/null || complain "bench-usp.json is no JSON"
expect 0 '' bench --seq 64 --preset ringX3 --forward-only --iterations 1 --warmup 0
expect 0 '' bench --seq 0 --preset ringX3 --ranks 2 --iterations 1
expect 73 'nowhere' bench --seq 64 --preset ring --ranks 2 --iterations 1 --timeline nowhere/x.svg
expect 74 'rank 0' bench --seq 64 --preset ring --ranks 2 --iterations 1 --fault 'rank=0,call=20,kind=error'
expect 71 'at least' bench --seq 512 --preset ringX3 --ranks 2 --iterations 1 --workspace-limit 1
if ! ldd "$RINGX" | grep -q 'lib[at]san'; then # sanitizers need all of the address space
    (ulimit -v 600000; "$RINGX" bench --seq 4m --preset ringX3 --iterations 1 --forward-only --threads 1 2>stderr)
    [ $? -eq 71 ] || complain "out of memory: $(cat stderr)"
fi
"$RINGX" info --json >/dev/full 2>stderr
[ $? -eq 73 ] || complain "full disk: $(cat stderr)"

expect 0 'written: machine.yaml' info --calibrate machine.yaml --heads 1 --head-dim 16
expect 0 '' plan --preset ring --ranks 2 --seq 256 --machine ./machine.yaml
expect 73 'nowhere' info --calibrate nowhere/machine.yaml --heads 1 --head-dim 16
finish
