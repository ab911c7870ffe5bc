#!/usr/bin/env bash
# rclone/rclone#5908, cryptomator/cli#40: file systems whose stat reports size 0 for files with content (/proc, FUSE).
# Such a file is read to its end or reported as unread. It is never stored as empty with exit 0.
. "$(dirname "$0")/common.sh"
[ -r /proc/version ] && [ "$(stat -c %s /proc/version)" = 0 ] || skip "no /proc/version of size 0"
"$AR7" ingest a.ar7 /proc/version 2>/dev/null; rc=$?
"$AR7" cat a.ar7 version > got 2>/dev/null
# `cmp` of two files believes the size in stat.
[ $rc -ne 0 ] || cat /proc/version | cmp -s got - || fail "exit 0, and $(wc -c < got) of $(wc -c < /proc/version) bytes stored"
pass "its content is stored, or it is reported (exit $rc)"
