#!/bin/bash
# SPDX-License-Identifier: MIT
# Every key of the configuration does something, can have one value only, or is named as without effect when it is set.
set -u
cd "$(dirname "$0")/../../.." || exit 1
keys=apps/train/config_keys.c notes=apps/train/config_notes.c
failures=0 count=0 noted=0
complain() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}
# Used as a member of a configuration, which is called c everywhere but where it is read.
used() {
    grep -lE "\bc(->|\.)$1\b" apps/train/*.c apps/gpt/*.c | grep -vE "config_(keys|notes|values|read)\.c$" | grep -q .
}
# One value alone is allowed: limits that are equal, a flag that cannot be set, a list of one choice.
single() { # kind low high choices
    case $1 in
    KEY_BOOL) [ "$3" = 0 ] ;;
    KEY_CHOICE) [ "$(grep -E "^static const char \*const $4\[\]" $keys | grep -o '"' | wc -l)" -eq 2 ] ;;
    *) [ "$2" = "$3" ] && [ "$2" != 0 ] || [ "$1 $2 $3" = "KEY_REAL 0 0" ] ;;
    esac
}
while IFS='|' read -r name kind field low high choices; do
    count=$((count + 1))
    if grep -q "{\"$name\", " "$notes"; then
        noted=$((noted + 1))
        ! used "$field" || grep -qE "\{\"$name\", .*, (recomputes|on_cpu|divides)\}" "$notes" || complain "$name is used, and a note says that it is not"
    elif ! used "$field" && ! single "$kind" "$low" "$high" "$choices"; then
        complain "$name is accepted, has no effect, and no note says so"
    fi
done < <(tr '\n' ' ' <$keys | grep -oE '\{"[a-z0-9_.]+", KEY_[A-Z]+, F\([a-z0-9_]+\), [^{}]*\}' |
    sed -E 's/\{"([^"]+)", (KEY_[A-Z]+), F\(([a-z0-9_]+)\), ([^,]+), ([^,]+), +([^,]+),.*/\1|\2|\3|\4|\5|\6/')
[ "$count" -eq "$(grep -oE 'KEY_[A-Z]+, F\(' $keys | wc -l)" ] || complain "$count keys were read; there are more"
[ "$noted" -eq "$(grep -cE '^    \{"' $notes)" ] || complain "a note is about a key that there is not"
[ "$failures" -eq 0 ] || exit 1
echo "$count keys: $noted of them named as without effect"
