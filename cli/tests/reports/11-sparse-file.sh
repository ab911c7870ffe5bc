#!/usr/bin/env bash
# restic/restic#79, fdupoux/fsarchiver#70, teejee2008/timeshift#864: a file that is mostly a hole.
# It takes about as much space in the archive, and after a restore, as before.
. "$(dirname "$0")/common.sh"
truncate -s 400M disk; echo end >> disk; before=$(du -k disk | cut -f1)
"$AR7" -q ingest a.ar7 disk; "$AR7" -q extract a.ar7 --to out
archive=$(du -k a.ar7 | cut -f1); after=$(du -k out/disk | cut -f1)
[ "$archive" -lt 50000 ] && [ "$after" -lt 50000 ] ||
  fail "$before KiB on disk, $archive KiB of archive, $after KiB restored"
pass "$before KiB on disk, $archive KiB of archive, $after KiB restored"
