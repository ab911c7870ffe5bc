#!/usr/bin/env bash
# No report: the advice of extract names an option that extract does not have.
# Every option that a message names exists.
. "$(dirname "$0")/common.sh"
mkdir -p x/d; echo 1 > x/f; echo 2 > x/d/f; "$AR7" -q ingest a.ar7 x
"$AR7" extract a.ar7 x/f x/d/f --to out 2>err; rc=$?
option=$(grep -oE -- '--[a-z-]+' err | head -1)
[ -z "$option" ] || "$AR7" extract --help | grep -q -- "$option" ||
  fail "exit $rc, '$(cat err)', but extract has no $option"
pass "every named option exists"
