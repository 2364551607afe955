#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx run: the user's own tensors, every dtype, and every way in which files can be wrong.
. "$(dirname "$0")/expect.bash"
data=$(cd "${RINGX_TEST_DATA:-$(dirname "$0")/../data}/attention" && pwd)

# Relative Frobenius distance of each tensor of FILE from the oracle's must be within LIMIT; dtype of all but lse.
cat >"$work/compare.py" <<'EOF'
import array, json, struct, sys

def load(path):
    raw = open(path, 'rb').read()
    n = struct.unpack('<Q', raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    tensors = {}
    for name, t in header.items():
        if name == '__metadata__':
            continue
        begin, end = t['data_offsets']
        part = raw[8 + n + begin:8 + n + end]
        if t['dtype'] == 'BF16':
            values = [struct.unpack('<f', b'\0\0' + part[i:i + 2])[0] for i in range(0, len(part), 2)]
        else:
            values = list(struct.unpack('<%d%s' % (len(part) // {'F64': 8, 'F32': 4, 'F16': 2}[t['dtype']],
                                                   {'F64': 'd', 'F32': 'f', 'F16': 'e'}[t['dtype']]), part))
        tensors[name] = (t['dtype'], t['shape'], values)
    return tensors, header.get('__metadata__', {})

def save(path, tensors, metadata):
    header, data = {'__metadata__': metadata}, b''
    for name, (dtype, shape, values) in tensors.items():
        if dtype == 'BF16':
            part = b''.join(struct.pack('<f', v)[2:] for v in values)
        else:
            part = struct.pack('<%d%s' % (len(values), {'F64': 'd', 'F32': 'f', 'F16': 'e'}[dtype]), *values)
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    open(path, 'wb').write(struct.pack('<Q', len(text)) + text + data)

if __name__ == '__main__':
    result, oracle, limit, dtype, names = sys.argv[1:6]
    got, want = load(result)[0], load(oracle)[0]
    assert sorted(got) == sorted(names.split(',')), sorted(got)
    for name in got:
        assert got[name][0] == ('F32' if name == 'lse' else dtype), (name, got[name][0])
        assert got[name][1] == want[name][1], name
        size = sum(x * x for x in want[name][2]) ** 0.5
        off = sum((x - y) ** 2 for x, y in zip(got[name][2], want[name][2])) ** 0.5
        assert off <= float(limit) * size, (name, off / size)
EOF
compare() {
    python3 "$work/compare.py" "$@" 2>"$work/why" || { complain "compare $*"; tail -1 "$work/why"; }
}

all=out,lse,dq,dk,dv
for name in odd_causal packed_causal window_full softcap_causal; do
    for ranks in 1 3; do
        expect 0 '' run --input "$data/$name.safetensors" --output "$work/out" --ranks $ranks
        compare "$work/out" "$data/$name.safetensors" 2e-6 F32 $all
    done
done
expect 0 '' run --input "$data/odd_causal.safetensors" --output "$work/out" --ranks 2 --forward-only --preset usp
compare "$work/out" "$data/odd_causal.safetensors" 2e-6 F32 out,lse
expect 0 '' run --input "$data/mha_full.safetensors" --output "$work/out" --causal --json
json 'j["command"] == "run" and j["backward"] and j["tokens"] == 96'
cp "$data/mha_causal.safetensors" "$work/in.safetensors"
expect 0 '' run --input "$work/in.safetensors" --output "$work/in.safetensors" --no-causal # over its own input
[ "$(stat -c %s "$work/in.safetensors")" -lt "$(stat -c %s "$data/mha_causal.safetensors")" ] || complain "not replaced"

# every dtype, and mixed ones; then files that are no attention problems
cd "$work" && python3 - "$data/odd_causal.safetensors" <<'EOF'
import sys
sys.path.insert(0, '.')
from compare import load, save
tensors, metadata = load(sys.argv[1])
inputs = {k: tensors[k] for k in ('q', 'k', 'v', 'dout')}
def cast(dtypes):
    return {k: (d, inputs[k][1], inputs[k][2]) for (k, d) in zip(inputs, dtypes)}
for d in ('F64', 'F32', 'BF16', 'F16'):
    save(d, cast([d] * 4), metadata)
save('mixed', cast(['F64', 'BF16', 'F32', 'F16']), metadata)
save('halves', cast(['BF16', 'F16', 'BF16', 'BF16']), metadata)
good = cast(['F32'] * 4)
def broken(name, change=None, **meta):
    t = {k: (v[0], list(v[1]), list(v[2])) for k, v in good.items()}
    if change:
        change(t)
    save(name, t, dict(metadata, **meta))
def reshape(name, shape):
    def change(t):
        n = 1
        for s in shape:
            n *= s
        t[name] = ('F32', shape, (t[name][2] * 9)[:n])
    return change
broken('no-k', lambda t: t.pop('k'))
broken('k-heads', reshape('k', [1, 101, 2, 40]))
broken('k-tokens', reshape('k', [1, 100, 1, 40]))
broken('v-batch', reshape('v', [2, 101, 1, 40]))
broken('q-rank', reshape('q', [101, 3, 40]))
broken('q-dim', reshape('q', [1, 101, 3, 39]))
broken('dout-shape', reshape('dout', [1, 101, 3, 41]))
broken('wide', lambda t: [reshape(n, [1, 3, 1, 257])(t) for n in t])
def infinite(t):
    t['v'] = ('F64', t['v'][1], [1e300] + t['v'][2][1:])
broken('large', infinite)
broken('causal', causal='maybe')
broken('left', window_left='-2')
broken('left-text', window_left='3x')
broken('softcap', softcap='-1')
broken('scale', scale='inf')
broken('starts', cu_seqlens='0,50,40')
broken('starts-end', cu_seqlens='0,102')
broken('starts-text', cu_seqlens='0,,101')
broken('starts-one', cu_seqlens='7')
empty = {k: (v[0], [v[1][0], 0] + v[1][2:], []) for k, v in good.items()}
save('empty', empty, {})
import json, struct
text = json.dumps({'q': {'dtype': 'I32', 'shape': [1], 'data_offsets': [0, 4]}, 'k': {'dtype': 'F32', 'shape': [1],
                   'data_offsets': [4, 8]}, 'v': {'dtype': 'F32', 'shape': [1], 'data_offsets': [8, 12]}}).encode()
open('integers', 'wb').write(struct.pack('<Q', len(text)) + text + bytes(12))
EOF
oracle="$data/odd_causal.safetensors"
for dtype in F64 F32; do
    expect 0 '' run --input $dtype --output out --ranks 2
    compare out "$oracle" 2e-6 $dtype $all
done
for dtype in BF16 F16; do
    expect 0 '' run --input $dtype --output out --ranks 2
    compare out "$oracle" 4e-3 $dtype $all
done
expect 0 '' run --input mixed --output out --ranks 2
compare out "$oracle" 2e-6 F64 $all
expect 0 '' run --input halves --output out --ranks 2 # computed in float32, saved as BF16
compare out "$oracle" 4e-3 BF16 $all
expect 0 '' run --input empty --output out --ranks 2

refuse() {
    rm -f out
    expect 65 "$2" run --input "$1" --output out
    grep -q "$1" stderr || complain "$1: the file is not named"
    [ -e out ] && complain "$1: something was written"
}
refuse no-k "tensor 'k' is missing"
refuse k-heads 'must divide'
refuse k-tokens "tensor 'k' is \[1, 100, 1, 40\].*must be \[1, 101, 1, 40\]"
refuse v-batch "tensor 'v' is \[2, 101, 1, 40\].*must be \[1, 101, 1, 40\]"
refuse q-rank "tensor 'q' has 3 dimensions; it must have 4"
refuse q-dim "tensor 'k' is .*must be \[1, 101, 1, 39\]"
refuse dout-shape "tensor 'dout' is"
refuse wide '1 … 256'
refuse large "tensor 'v', element 0 is 1e\+300"
refuse causal "causal is 'maybe'; it must be 0 or 1"
refuse left "window_left is '-2'"
refuse left-text "window_left is '3x'"
refuse softcap "softcap is '-1'"
refuse scale "scale is 'inf'"
for name in starts starts-end starts-text starts-one; do
    refuse $name 'cu_seqlens is'
done
refuse integers "tensor 'q' is I32"
expect 64 '--docs ends at 102' run --input F32 --output out --docs 0,102

# files that cannot be read or written; nothing half written is left
expect 66 'there is no such file' run --input missing --output out
expect 65 'is not a regular file' run --input . --output out
expect 73 'cannot be' run --input F32 --output nowhere/out
expect 73 'is not a regular file' run --input F32 --output /dev/null
before=$(ls | wc -l)
(ulimit -f 8; trap '' XFSZ; "$RINGX" run --input F32 --output out 2>stderr)
[ $? -eq 73 ] || complain "no room for the output: $(cat stderr)"
[ "$(ls | wc -l)" -le $((before + 1)) ] && [ ! -e out ] || complain "no room for the output: something is left"

# agreed on by ranks: a fault is no wrong result, and nothing is written
expect 74 'rank 2' run --input F32 --output out --ranks 3 --preset ring --fault 'rank=2,call=3,kind=error'
[ ! -e out ] || complain "fault: something was written"
finish
