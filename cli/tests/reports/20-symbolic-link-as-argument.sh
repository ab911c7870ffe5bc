#!/usr/bin/env bash
# restic/restic#542, borgbackup/borg#4737, bit-team/backintime#116: the folder to store is a symbolic link.
# A warning says that only the link is stored.
. "$(dirname "$0")/common.sh"
mkdir real; echo precious > real/doc; ln -s real docs
"$AR7" ingest a.ar7 docs/ 2>err; rc=$?
"$AR7" ls -R a.ar7 | grep -q doc$ || grep -qi link err ||
  fail "exit $rc, 'docs/' stores a link and nothing of its target: $(head -1 err)"
pass "stored, or reported"
