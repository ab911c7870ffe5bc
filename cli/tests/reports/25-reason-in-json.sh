#!/usr/bin/env bash
# rustic-rs/rustic#1908: scripts distinguish a forbidden file from one that vanished or changed.
# Each unread and skipped input in --json has its reason.
. "$(dirname "$0")/common.sh"
own
as test -r "$W/key" || skip "a normal user cannot reach the scratch directory"
mkdir src; echo x > src/secret; mkfifo src/pipe; own; chmod 000 src/secret
as "$AR7" ingest --json a.ar7 src > out.json 2>/dev/null; rc=$?
python3 - <<'P' || fail "exit $rc, the JSON gives no reasons: $(tr -d '\n ' < out.json)"
import json
d=json.load(open('out.json'))
for e in d['unread']+d['skipped']: assert len(e.keys()-{'name','name_bytes'})>0
P
pass "each has its reason"
