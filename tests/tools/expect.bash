# SPDX-License-Identifier: MIT
# For tests of the command: expect CODE 'words that must be in the output' arguments…
set -u
: "${RINGX:?the path of the ringx command}"
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

complain() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}

# Exit code, a word of the output (extended regular expression; '' for any), and one line at most on standard error.
expect() {
    local code=$1 words=$2 got
    shift 2
    "$RINGX" "$@" >"$work/stdout" 2>"$work/stderr"
    got=$?
    cat "$work/stdout" "$work/stderr" >"$work/output"
    if [ "$got" -ne "$code" ]; then
        complain "ringx $*: exit code $got instead of $code"
        head -5 "$work/output"
    elif [ -n "$words" ] && ! grep -Eq -- "$words" "$work/output"; then
        complain "ringx $*: the output lacks '$words'"
        head -5 "$work/output"
    elif [ "$(wc -l <"$work/stderr")" -gt 1 ]; then
        complain "ringx $*: more than one line on standard error"
        head -5 "$work/stderr"
    fi
}

# The last output must be JSON in which the expression (over j) is true.
json() {
    python3 -c 'import json, sys; j = json.load(open(sys.argv[1])); assert eval(sys.argv[2])' "$work/stdout" "$1" \
        2>"$work/json" || { complain "JSON: $1"; tail -1 "$work/json"; head -c 300 "$work/stdout"; }
}

finish() {
    [ "$failures" -eq 0 ] && echo "all as expected"
    exit "$((failures > 0))"
}
