#!/usr/bin/env bash
# restic/restic#4399, borgbackup/borg#7220, restic/restic#499: a pattern with a slash at its end, as in .gitignore.
# It excludes directories of that name at any depth, or is refused.
. "$(dirname "$0")/common.sh"
mkdir -p src/build; echo x > src/build/big; echo y > src/keep
"$AR7" -q ingest --exclude 'build/' a.ar7 src 2>err; rc=$?
[ $rc -eq 2 ] || ! "$AR7" ls -R a.ar7 | grep -q '^src/build' ||
  fail "exit $rc, 'build/' excludes nothing, without a message"
pass "excluded, or refused (exit $rc)"
