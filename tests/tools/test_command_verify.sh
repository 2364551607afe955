#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx verify: passes on what is right, fails on what is not, repeats single cases, survives faults.
. "$(dirname "$0")/expect.bash"
data=$(cd "${RINGX_TEST_DATA:-$(dirname "$0")/../data}/attention" && pwd)

expect 0 '^300 passed, 0 failed$' verify --cases 300 --ranks 1-5 --seed 11
expect 0 '^1 passed, 0 failed$' verify --only 123456 --ranks 1-5 --seed 11
expect 0 '^0 passed, 0 failed$' verify --cases 0
expect 0 '^40 passed, 0 failed$' verify --cases 40 --comm self
expect 0 '^40 passed, 0 failed$' verify --cases 40 --kernel cpu_ref --mask packed,window --dtype f16,f32
expect 0 '^40 passed, 0 failed$' verify --cases 40 --forward-only --preset zigzag,auto --lookahead 2
expect 0 '^60 passed, 0 failed$' verify --cases 60 --wire bf16 --ranks 2-5
expect 0 '' verify --cases 200 --json --seed 3
json 'j["passed"] == 200 and j["failed"] == 0 and j["failures"] == [] and 0 < j["largest_errors"]["f32"]["out"] < 1e-5'

# the same seed draws the same cases, whatever the number of cases
for cases in 20 25; do
    "$RINGX" verify --cases $cases --only 17 --json | grep -v closest >"$work/only-$cases"
done
cmp -s "$work/only-20" "$work/only-25" || complain "case 17 differs between runs"

# oracles
expect 0 '^180 passed, 0 failed$' verify --oracle "$data/odd_causal.safetensors" "$data/window_full.safetensors" --ranks 1-3
expect 0 '^15 passed, 0 failed$' verify --oracle="$data/mha_full.safetensors" --ranks 4 --dtype bf16
python3 - "$data/odd_causal.safetensors" "$work" <<'EOF'
import struct, sys, json
raw = bytearray(open(sys.argv[1], 'rb').read())
n = struct.unpack('<Q', raw[:8])[0]
header = json.loads(raw[8:8 + n])
for name in ('out', 'lse', 'dq', 'dk', 'dv'):
    bad = bytearray(raw)
    begin, end = header[name]['data_offsets']
    for at in range(begin, end, 4):  # 4 parts in a million too large
        x = struct.unpack_from('<f', bad, 8 + n + at)[0]
        struct.pack_into('<f', bad, 8 + n + at, x * (1 + 4e-6))
    open(f'{sys.argv[2]}/{name}.safetensors', 'wb').write(bad)
open(f'{sys.argv[2]}/cut.safetensors', 'wb').write(raw[:-1])
EOF
for name in out lse dq dk dv; do
    expect 1 "$name: relative error" verify --oracle "$work/$name.safetensors" --preset ring --dtype f32 --ranks 2
    grep -q '^0 passed, 1 failed$' "$work/stdout" || complain "$name: the last line"
done
command=$(sed -n 's/^  ringx /ringx /p' "$work/stdout")
echo "$command" | grep -q -- "--preset ring --dtype f32 --ranks 2 --oracle '$work/dv.safetensors'" || complain "command to repeat: $command"
expect 66 'there is no such file' verify --oracle "$work/missing.safetensors"
expect 65 'cover' verify --oracle "$work/cut.safetensors"

# faults: a delay changes nothing; an error and a lost message end in their own codes and are not wrong results
expect 0 '^20 passed, 0 failed$' verify --cases 20 --ranks 3 --fault 'rank=1,call=*,kind=delay:0.001'
expect 74 'ringx verify .*--fault' verify --only 3 --ranks 3 --preset ring --fault 'rank=1,call=4,kind=error'
expect 79 '' verify --only 3 --ranks 3 --preset ring --timeout 0.5 --fault 'rank=1,call=4,kind=drop'
expect 64 'fault' verify --only 3 --ranks 3 --fault 'rank=1,kind=nonsense'
finish
