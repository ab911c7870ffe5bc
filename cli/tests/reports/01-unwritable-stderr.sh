#!/usr/bin/env bash
# rust-lang/rust#82791, oxidecomputer/omicron#4353: a program dies because its log is on a full disk.
# A message that cannot be written stops no run: every readable file is stored.
. "$(dirname "$0")/common.sh"
mkdir src; for i in $(seq 50); do echo "$i" > "src/f$i"; done
"$AR7" ingest a.ar7 src gone 2>/dev/full; rc=$? # the missing path causes a message
n=$("$AR7" ls a.ar7 src 2>/dev/null | wc -l)
[ "$rc" -lt 9 ] && [ "$n" -eq 50 ] || fail "exit $rc, $n of 50 files are in the archive"
pass "stored 50 files although standard error cannot be written"
