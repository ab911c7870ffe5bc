#!/usr/bin/env bash
# restic/restic#1005, borgbackup/borg#6258: a pattern for a path as typed (./src/cache, or absolute).
# The path is excluded, or the pattern that matched nothing is reported.
. "$(dirname "$0")/common.sh"
mkdir -p src/cache; echo x > src/cache/big; echo y > src/keep
for pattern in ./src/cache "$W/src/cache"; do
  rm -f a.ar7; "$AR7" -q ingest --exclude "$pattern" a.ar7 "${pattern%/cache}" 2>err; rc=$?
  [ $rc -eq 2 ] || [ -s err ] || ! "$AR7" ls -R a.ar7 | grep -q '^src/cache' ||
    fail "exit $rc, --exclude ${pattern##"$W/"} excludes nothing, without a message"
done
pass "excluded, or reported"
