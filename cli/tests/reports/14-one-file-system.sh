#!/usr/bin/env bash
# borgbackup/borg#2141, borgbackup/borg#873, andrewchambers/bupstash#91: staying on one file system.
# --one-file-system excludes what is mounted below a path, as in tar, restic, borg and rsync.
. "$(dirname "$0")/common.sh"
"$AR7" ingest --help | grep -q -- --one-file-system || fail "there is no --one-file-system"
[ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null || skip "needs a mount namespace"
unshare -m bash -c 'mkdir -p src/m && mount -t tmpfs none src/m && echo x > src/m/f && echo y > src/g &&
  "$AR7" -q ingest --one-file-system a.ar7 src' || fail "ingest"
"$AR7" ls -R a.ar7 | grep -q '^src/m/f' && fail "an entry of another file system is stored"
pass "only one file system is stored"
