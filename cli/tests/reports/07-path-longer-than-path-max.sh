#!/usr/bin/env bash
# markfasheh/duperemove#391, uutils/coreutils#7376: a path longer than 4096 bytes.
# It is stored, as by tar and borg, and restored.
. "$(dirname "$0")/common.sh"
python3 - <<'P' || skip "no python3"
import os
for _ in range(30):
    name='d'*200
    if not os.path.isdir('src') and _==0: os.mkdir('src'); os.chdir('src')
    os.mkdir(name); os.chdir(name)
open('leaf','w').write('deep')
P
"$AR7" ingest a.ar7 src >/dev/null 2>&1; rc=$?
n=$("$AR7" ls -R a.ar7 | wc -l)
cd "$W"; [ "$n" -eq 32 ] || fail "exit $rc, $n of 32 entries stored"
"$AR7" -q extract a.ar7 --to out || fail "extract"
pass "a path of 6000 bytes is stored and restored"
