# Shared by the scripts: headings, values out of JSON, and processes that can be ended with all their children. Sourced, not run.
# shellcheck shell=bash

# say TEXT…: one line of narration on stdout.
say() { printf '%s\n' "$*"; }

# heading TEXT…: the start of a new part.
heading() { printf '\n== %s\n' "$*"; }

# field FILE EXPRESSION: a value out of a JSON document, by a Python expression over `doc`.
field() { python3 -c 'import json, sys; doc = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }

# start CMD…: runs CMD in the background as the leader of its own process group, so that stop_group reaches all of its
# children and an interrupt is not ignored. Its process id is left in $started. The caller redirects.
start() {
    set -m
    "$@" </dev/null &
    # shellcheck disable=SC2034 # the caller reads it
    started=$!
    set +m
}

# alive PID: whether the process runs (a zombie that nobody waited for yet does not).
alive() { [[ -r /proc/$1/stat ]] && [[ $(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null || echo Z) != Z ]]; }

# stop_group PID SIGNAL SECONDS [leader]: signals the whole group of PID, or its leader alone, and waits for the leader.
# What has not ended by then, or outlives its leader by more than two seconds, is killed; the result is then 1.
stop_group() {
    local pid=$1 signal=$2 left=$(($3 * 10)) whom=-$1 killed=0
    if [[ ${4:-} == leader ]]; then whom=$pid; fi
    kill -s "$signal" -- "$whom" 2>/dev/null || true
    while alive "$pid" && ((left > 0)); do
        sleep 0.1
        left=$((left - 1))
    done
    if alive "$pid"; then
        kill -s KILL -- "-$pid" 2>/dev/null || true
        killed=1
    fi
    wait "$pid" 2>/dev/null || true
    left=20
    while kill -s 0 -- "-$pid" 2>/dev/null && ((left > 0)); do
        sleep 0.1
        left=$((left - 1))
    done
    if kill -s KILL -- "-$pid" 2>/dev/null; then killed=1; fi
    return "$killed"
}
