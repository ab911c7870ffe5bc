#!/usr/bin/env bash
# restic/restic#2179, borgbackup/borg#3730: new content with the old size and mtime (cp -p, rsync -t, a package).
# The new content is stored: the inode number or the change time differs.
. "$(dirname "$0")/common.sh"
mkdir src; printf AAAA > src/f; touch -d '2020-01-01 UTC' src/f
"$AR7" -q ingest a.ar7 src
printf BBBB > new; touch -d '2020-01-01 UTC' new; mv new src/f
"$AR7" -q ingest a.ar7 src
got=$("$AR7" cat a.ar7 src/f)
[ "$got" = BBBB ] || fail "a replaced file of the same size and mtime still has the old content: $got"
pass "the replacement was noticed"
