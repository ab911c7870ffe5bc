#!/usr/bin/env bash
# rfjakob/gocryptfs#433, squidowl/halloy#1685: a key file that others can read.
# It causes a warning, as in ssh.
. "$(dirname "$0")/common.sh"
chmod 644 key; "$AR7" create a.ar7 2>err; rc=$?
[ -s err ] || [ $rc -ne 0 ] || fail "a key file of mode 0644 causes no warning"
pass "warned: $(head -1 err | sed "s|$W|.|")"
