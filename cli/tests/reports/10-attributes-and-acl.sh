#!/usr/bin/env bash
# borgbackup/borg#921, ewxrjk/rsbackup#37: extended attributes, capabilities and ACLs are gone after a restore.
# They are restored, or reported at ingest. The group of a file with an ACL never gets more rights than before.
. "$(dirname "$0")/common.sh"
python3 - <<'P' || skip "no extended attributes here"
import os,struct
open('f','w').write('x'); os.chmod('f',0o640); os.setxattr('f','user.note',b'important')
acl=struct.pack('<I',2)
NOBODY=0xffffffff
for tag,perm,who in ((1,6,NOBODY),(2,7,12345),(4,4,NOBODY),(16,7,NOBODY),(32,0,NOBODY)):
    acl+=struct.pack('<HHI',tag,perm,who)
os.setxattr('f','system.posix_acl_access',acl)
P
"$AR7" ingest a.ar7 f 2>err; rc=$?
"$AR7" -q extract a.ar7 --to out
mode=$(stat -c %a out/f); kept=$(python3 -c 'import os; print(len(os.listxattr("out/f")))')
[ "$kept" -ge 2 ] && pass "attributes restored"
grep -qiE 'attribute|acl' err || fail "exit $rc without a message: attributes and ACL are lost, and the mode is $mode"
[ $((0$mode & 030)) -eq 0 ] || fail "reported, but the owning group had r--, and the mode is now $mode"
pass "reported, and nobody has more rights"
