#!/usr/bin/env bash
# restic/restic#719, restic/restic#2059: the second of two runs at once should be able to wait.
# An option waits for the lock.
. "$(dirname "$0")/common.sh"
"$AR7" ingest --help | grep -qiE -- '--[a-z-]*(wait|retry)' || fail "no option waits for an archive in use"
pass "there is an option that waits"
