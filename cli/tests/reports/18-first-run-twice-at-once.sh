#!/usr/bin/env bash
# restic/restic#4321: several first runs on the same new archive at once.
# One stores; each other one stores too or reports that the archive is in use (exit 5).
. "$(dirname "$0")/common.sh"
mkdir src; for i in $(seq 500); do head -c 20000 /dev/urandom > "src/f$i"; done
for i in 1 2 3 4; do ( "$AR7" -q ingest a.ar7 src >/dev/null 2>err$i; echo $? > rc$i ) & done; wait
codes=$(cat rc1 rc2 rc3 rc4 | sort | tr '\n' ' ')
case $codes in *1\ *) fail "exit codes $codes: $(cat err? | grep -v 'in use' | head -1 | sed "s|$W|.|")";; esac
pass "exit codes $codes"
