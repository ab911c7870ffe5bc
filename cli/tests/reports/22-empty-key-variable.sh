#!/usr/bin/env bash
# restic/restic#1786: a unit or CI file sets AR7_KEY_FILE to nothing and AR7_PASSPHRASE to something.
# An empty variable counts as unset.
. "$(dirname "$0")/common.sh"
AR7_KEY_FILE='' AR7_PASSPHRASE=secret "$AR7" create --kdf-memory 8MiB --kdf-passes 1 a.ar7 2>err; rc=$?
[ $rc -eq 0 ] || grep -q AR7_KEY_FILE err || fail "exit $rc: $(head -1 err)"
pass "exit $rc"
