#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-gpt preprocess: files byte by byte, the same for any number of workers; mistakes are named and leave nothing.
set -u
: "${RINGX_GPT:?the path of the ringx-gpt program}" "${RINGX_TEST_DATA:?the folder of test data}"
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
complain() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}
expect() { # exit code, words of the output, arguments
    local code=$1 words=$2 got
    shift 2
    "$RINGX_GPT" "$@" >stdout 2>stderr
    got=$?
    [ "$got" -eq "$code" ] || { complain "$*: exit code $got instead of $code"; cat stderr; }
    cat stdout stderr | grep -Eq -- "$words" || { complain "$*: the output lacks '$words'"; cat stderr; }
    [ "$(wc -l <stderr)" -le 1 ] || complain "$*: more than one line on standard error"
}
nothing() { # no file of this prefix, temporary or not
    left=$(find . -maxdepth 1 -name "$1*" | tr '\n' ' ')
    [ -z "$left" ] || complain "$2: $left is left"
}
bytes() { od -An -v -tx1 "$1" | tr -d ' \n'; }

# ---- bytes by the layout, with bytes as tokens
printf '{"text": "ab"}\n\n{"title": 1, "text": "\\u00e9"}\n{"text": ""}' >small.jsonl
expect 73 'small_text_document.bin: cannot be written' preprocess --input small.jsonl --output-prefix none/small \
    --tokenizer-type CharLevelTokenizer
expect 0 '3 documents, 6 tokens' preprocess --input small.jsonl --output-prefix small --tokenizer-type \
    CharLevelTokenizer --append-eod
[ "$(bytes small_text_document.bin)" = 610062000000c300a9000000 ] || complain "bytes of .bin"
[ "$(bytes small_text_document.idx)" = "4d4d494449445800000100000000000000080200000000000000030000000000000003000000\
03000000000000000000000006000000000000000000000000000000010000000000000002""00000000000000" ] || complain "bytes of .idx"

# ---- any number of workers, files and commas
for i in $(seq 400); do
    printf '{"text": "Zeile %d: \\u00fc %s", "other": "%s"}\n' "$i" "$(printf 'wort%.0s ' $(seq $((i % 50))))" "$i"
done >lines.jsonl
head -c 3000000 /dev/zero | tr '\0' 'x' | sed 's/x\{70\}/& /g' >long.txt # more than a batch
printf 'one\r\ntwo\n\nthree' >three.txt
"$RINGX_GPT" tokenizer train --input "$RINGX_TEST_DATA/gpt/multilingual.txt" --output t.json --vocab-size 400 >/dev/null ||
    complain "no tokenizer"
for n in 1 2 7; do
    expect 0 'documents' preprocess --input lines.jsonl,small.jsonl lines.jsonl --jsonl-keys text --vocab-file t.json \
        --append-eod --workers $n --output-prefix "n$n"
    expect 0 'documents' preprocess --input three.txt long.txt three.txt --documents line --vocab-file t.json \
        --workers $n --output-prefix "t$n"
    for e in bin idx; do
        cmp n1_text_document.$e "n${n}_text_document.$e" || complain "$n workers, $e"
        cmp t1_text_document.$e "t${n}_text_document.$e" || complain "$n workers, $e of .txt"
    done
done
expect 0 '^800 documents' preprocess --input lines.jsonl lines.jsonl --jsonl-keys text,other --vocab-file t.json \
    --output-prefix two
cmp <(head -c 300 two_text_document.bin) <(head -c 300 n1_text_document.bin) >/dev/null && complain "eod without --append-eod"
[ -s two_other_document.idx ] || complain "the second key has no file"
expect 0 '^1 documents' preprocess --input three.txt --vocab-file t.json --output-prefix whole
tokens=$("$RINGX_GPT" tokenizer encode --vocab-file t.json --input three.txt | wc -w)
[ "$(stat -c %s whole_text_document.bin)" -eq $((2 * tokens)) ] || complain "a whole file is one document"
if command -v zstd >/dev/null; then
    zstd -q lines.jsonl && cat lines.jsonl.zst lines.jsonl.zst >twice.jsonl.zst
    expect 0 'documents' preprocess --input lines.jsonl lines.jsonl --vocab-file t.json --output-prefix plain
    expect 0 'documents' preprocess --input twice.jsonl.zst --vocab-file t.json --output-prefix packed
    for e in bin idx; do cmp plain_text_document.$e packed_text_document.$e || complain ".zst, $e"; done
else
    echo "left out: .zst (no zstd command)"
fi

# ---- mistakes are named, and leave nothing
bad() { # words, code, content of a .jsonl after 300 good lines
    { head -n 300 lines.jsonl; printf '%b' "$3"; } >bad.jsonl
    expect "$2" "$1" preprocess --input bad.jsonl --vocab-file t.json --output-prefix bad_out --workers 2
    nothing bad_out "$1"
}
bad 'bad.jsonl: line 301 \(byte [0-9]+\): byte [0-9]+ of the line' 65 '{"text": "a",}\n'
bad 'line 302 .*, key text: there is no such key' 65 '{"text": "a"}\n{"txt": "b"}\n'
bad 'line 301 .*, key text: it is not a text' 65 '{"text": ["a"]}\n'
bad 'line 301 .*' 65 '{"text": "\\xff"}\n'
bad 'line 301 .*' 65 '{"text": "\\ud800"}\n'
printf 'good \xff bad' >invalid.txt
expect 65 'invalid.txt: line 1 \(byte 0\): byte 5 \(0xff\) begins no well-formed' preprocess --input invalid.txt \
    --vocab-file t.json --output-prefix bad_out
expect 0 '1 documents' preprocess --input invalid.txt --vocab-file t.json --output-prefix keep --invalid-utf8 keep
: >empty.txt
expect 65 'no document that is not empty' preprocess --input empty.txt --vocab-file t.json --output-prefix bad_out
expect 64 'must end in .jsonl' preprocess --input t.json --vocab-file t.json --output-prefix bad_out
expect 66 'nothere.txt: cannot be read' preprocess --input three.txt nothere.txt --vocab-file t.json --output-prefix bad_out
expect 66 'nothere.json: cannot be opened' preprocess --input three.txt --vocab-file nothere.json --output-prefix bad_out
expect 64 'input is missing' preprocess --vocab-file t.json --output-prefix bad_out
expect 64 'output-prefix is missing' preprocess --input three.txt --vocab-file t.json
expect 64 'vocab-file is missing' preprocess --input three.txt --output-prefix bad_out
expect 64 "eod '<none>' is no token" preprocess --input three.txt --vocab-file t.json --append-eod --eod '<none>' \
    --output-prefix bad_out
expect 64 'a .txt file has one text' preprocess --input three.txt --vocab-file t.json --jsonl-keys a,b --output-prefix bad_out
expect 64 "unknown option '--worker'; the nearest is '--workers'" preprocess --worker 2
nothing bad_out mistakes

# ---- a full disk (the limit on files stands for it) and a signal leave nothing; what was there stays
cp n1_text_document.bin before.bin
(
    trap '' XFSZ
    ulimit -f 1
    "$RINGX_GPT" preprocess --input lines.jsonl lines.jsonl --vocab-file t.json --output-prefix full >stdout 2>stderr
) && complain "a full disk went unnoticed"
grep -q 'full_text_document.*cannot be written' stderr || { complain "a full disk"; cat stderr; }
nothing full "a full disk"
mkfifo slow.txt
{ sleep 30 & echo $! >sleeper; exec >slow.txt; echo text; wait; } 2>/dev/null &
"$RINGX_GPT" preprocess --input slow.txt --vocab-file t.json --output-prefix stopped >stdout 2>stderr &
program=$!
for _ in $(seq 100); do # until it has begun to write
    [ -z "$(find . -maxdepth 1 -name 'stopped*')" ] || break
    sleep 0.1
done
sleep 0.2
kill -TERM $program
wait $program
[ $? -ne 0 ] || complain "a signal went unnoticed"
kill "$(cat sleeper)" 2>/dev/null
grep -q 'stopped by signal 15' stderr || { complain "a signal"; cat stderr; }
nothing stopped "a signal"
# ---- a worker that dies ends the run
rm slow.txt && mkfifo slow.txt
"$RINGX_GPT" preprocess --input slow.txt --vocab-file t.json --output-prefix stopped >stdout 2>stderr &
program=$!
exec 9>slow.txt # returns when the program has opened it, after its worker was started
worker=$(cat /proc/$program/task/$program/children)
# shellcheck disable=SC2086  # one number
kill -KILL $worker
echo text >&9
exec 9>&-
wait $program
[ $? -eq 69 ] || complain "a worker's death: exit code"
grep -Eq 'worker process [0-9]+ died of signal 9' stderr || { complain "a worker's death"; cat stderr; }
nothing stopped "a worker's death"
cmp -s before.bin n1_text_document.bin || complain "another pair of files changed"

# ---- the program itself
expect 0 'usage: ringx-gpt COMMAND' --help
expect 0 '^ringx-gpt [0-9]+\.[0-9]+' --version
expect 64 "unknown command 'preproces'; the nearest is 'preprocess'" preproces
expect 64 "unknown command 'tokenizer'" tokenizer
expect 0 'tokenizer decode' tokenizer --help
for command in 'tokenizer train' 'tokenizer encode' 'tokenizer decode' preprocess; do
    # shellcheck disable=SC2086  # two words
    expect 0 "^usage: ringx-gpt $command \[options\]$" $command --help
    [ "$(awk 'length > 120' stdout | wc -l)" -eq 0 ] || complain "$command --help has long lines"
done
# the man page knows the options of these commands
sed 's/\\-/-/g' "$here/../../../docs/man/ringx-gpt.1" >page.txt
for command in 'tokenizer train' 'tokenizer encode' 'tokenizer decode' preprocess; do
    # shellcheck disable=SC2086
    for option in $("$RINGX_GPT" $command --help | sed -nE 's/^  --(\[no-\])?([a-z0-9-]+).*/\2/p'); do
        grep -q -- "--$option\b" page.txt || complain "the man page lacks --$option of $command"
    done
done
[ "$failures" -eq 0 ] && echo "all as expected"
exit "$((failures > 0))"
