#!/usr/bin/env bash
# borgbackup/borg#9573: the disk stays full after a run that ended for lack of space.
# A failed run gives back the space that it took, so that other programs can continue.
. "$(dirname "$0")/common.sh"
[ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null || skip "needs a mount namespace"
echo 1 > small; head -c 25000000 /dev/urandom > big
unshare -m bash -c 'mkdir m && mount -t tmpfs -o size=20m none m || exit 77
"$AR7" -q ingest m/a.ar7 small; stat -c %s m/a.ar7 > before
"$AR7" -q ingest m/a.ar7 big 2>/dev/null; echo $? > rc; stat -c %s m/a.ar7 > after' || skip "no tmpfs"
[ "$(cat rc)" = 7 ] || fail "expected exit 7, found $(cat rc)"
[ "$(cat after)" -le "$(cat before)" ] || fail "the archive grew from $(cat before) to $(cat after) bytes"
pass "the archive has its former length"
