#!/usr/bin/env bash
# restic/restic#22056: a second restore over a tree with directories of mode 0555, as a normal user.
# The directory is made writable for the time of the restore, as in the first one.
. "$(dirname "$0")/common.sh"
own
as test -r "$W/key" || skip "a normal user cannot reach the scratch directory"
mkdir -p src/ro; echo content > src/ro/f; own; chmod 555 src/ro
as "$AR7" -q ingest a.ar7 src && as "$AR7" -q extract a.ar7 --to out || fail "the first round"
as "$AR7" extract a.ar7 --to out --force 2>err >/dev/null; rc=$?
[ $rc -eq 0 ] || fail "exit $rc over a complete restore: $(head -1 err)"
[ "$(stat -c %a out/src/ro)" = 555 ] && [ "$(cat out/src/ro/f)" = content ] || fail "the restored directory differs"
pass "restored over a read-only directory"
