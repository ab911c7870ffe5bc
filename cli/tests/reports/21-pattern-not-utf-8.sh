#!/usr/bin/env bash
# andrewchambers/bupstash#304: names that are not UTF-8, in patterns.
# --exclude takes the bytes of any name.
. "$(dirname "$0")/common.sh"
mkdir src; bad=$(printf 'bad\377'); echo x > "src/$bad"; echo y > src/good
"$AR7" -q ingest --exclude "$bad" a.ar7 src 2>err; rc=$?
[ $rc -eq 0 ] && [ "$("$AR7" ls -R a.ar7 | wc -l)" -eq 2 ] || fail "exit $rc: $(head -1 err)"
pass "a pattern may have any bytes"
