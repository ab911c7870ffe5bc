#!/usr/bin/env bash
# restic/restic#2944, restic/restic#3013, rclone/rclone#9537: paths and patterns from files.
# --files-from and --exclude-from exist.
. "$(dirname "$0")/common.sh"
missing=
for option in --files-from --exclude-from; do
  "$AR7" ingest --help | grep -q -- "$option" || missing="$missing $option"
done
[ -z "$missing" ] || fail "there is no$missing"
pass "both options exist"
