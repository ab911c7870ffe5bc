#!/usr/bin/env bash
# restic/restic#4467, restic/restic#3098: one of several paths on the command line does not exist.
# As with tar, borg and restic, the others are stored, and the run ends with exit 8.
. "$(dirname "$0")/common.sh"
mkdir src; echo x > src/f
"$AR7" ingest a.ar7 src gone 2>/dev/null; rc=$?
"$AR7" cat a.ar7 src/f >/dev/null 2>&1 || fail "exit $rc, nothing is stored because one of two paths is missing"
[ $rc -eq 8 ] || fail "expected exit 8, found $rc"
pass "the existing path is stored, exit 8"
