#!/bin/bash
# SPDX-License-Identifier: MIT
# Help, version, mistakes in arguments: one line, exit code 64, and what would be right.
. "$(dirname "$0")/expect.bash"

expect 0 'usage: ringx COMMAND' --help
expect 0 '^ringx [0-9]+\.[0-9]+\.[0-9]+$' --version
expect 64 "unknown command 'benhc'; the nearest is 'bench'" benhc
expect 64 "unknown option '--versoin'; the nearest is '--version'" --versoin
expect 64 "unknown option '-h'" -h
"$RINGX" >/dev/null 2>"$work/stderr"
[ $? -eq 64 ] && grep -q 'usage: ringx COMMAND' "$work/stderr" || complain "ringx without a command"

for command in info verify bench plan run; do
    expect 0 "^usage: ringx $command \[options\]$" $command --help
    expect 0 '--json' $command --help
    [ "$(awk 'length > 120' "$work/stdout" | wc -l)" -eq 0 ] || complain "ringx $command --help has long lines"
    expect 64 "unknown option '--jsno'; the nearest is '--json'" $command --jsno
    expect 64 'unexpected argument' $command stray
done
# every option of the issue is in the help
for option in comm ranks preset mask dtype cases seed only oracle device kernel fault; do
    expect 0 "--$option " verify --help
done
for option in preset ranks batch seq heads kv-heads head-dim dtype '\[no-\]causal' window docs forward-only iterations \
    warmup csv timeline baseline softcap dropout slices lookahead threads fault; do
    expect 0 "--$option( |$)" bench --help
done
for option in preset ranks prove machine timeline sweep plot; do
    expect 0 "--$option( |$)" plan --help
done
for option in input output preset ranks '\[no-\]causal' window softcap scale docs; do
    expect 0 "--$option( |$)" run --help
done

# the man page knows every option, and no other
man=$(cd "$(dirname "$0")/../../docs/man" && pwd)/ringx.1
for command in info verify bench plan run; do
    "$RINGX" $command --help | sed -nE 's/^  --(\[no-\])?([a-z-]+).*/\2/p'
done | sort -u >"$work/options"
sed 's/\\-/-/g' "$man" | grep -oE -- '--[a-z][a-z-]+' | sed 's/^--//; /^no-causal$/d' | sort -u >"$work/in-man"
diff "$work/options" "$work/in-man" >"$work/difference" || complain "options and man page: $(tr '\n' ' ' <"$work/difference")"

expect 64 "preset 'ringX33' is unknown; the nearest is 'ringX3'" bench --preset ringX33
expect 64 'input is missing' run --output x
expect 64 'output is missing' run --input x
expect 64 'run takes one' run --input x --output y --preset ringX3,ring
expect 64 'needs --sweep' plan --plot x.svg
expect 64 'must end in .svg or .json' plan --timeline x.png
expect 64 "'rank' is unknown; the nearest is 'ranks'" plan --sweep rank=1,2
expect 64 'must begin with a name' plan --sweep 1,2
expect 64 'is there twice' plan --sweep ranks=1,ranks=2
expect 64 'out of range' plan --sweep ranks=0
expect 64 'kv_heads' bench --heads 3 --kv-heads 2 --seq 16 --preset ringX3
expect 64 '--comm self gives 1' bench --comm self --ranks 2
finish
