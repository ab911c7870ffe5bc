#!/usr/bin/env bash
# borgbackup/borg#871, borgbackup/borg#6379: a log, mailbox or disk image grows while it is backed up.
# As with tar, borg and restic, the file is stored as read and reported (exit 8).
. "$(dirname "$0")/common.sh"
mkdir src; head -c 80000000 /dev/urandom > src/log; cp src/log before
( while [ ! -e stop ]; do echo "one more line" >> src/log; sleep 0.002; done ) & writer=$!
"$AR7" ingest a.ar7 src 2>err; rc=$?
: > stop; wait $writer
"$AR7" cat a.ar7 src/log 2>/dev/null | head -c 80000000 | cmp -s - before ||
  fail "exit $rc, the growing file is not in the archive: $(head -1 err)"
pass "a growing file is stored (exit $rc)"
