#!/usr/bin/env bash
# rustic-rs/rustic#426: a passphrase without a terminal and without the environment.
# A passphrase can be read from a file or from the output of a command.
. "$(dirname "$0")/common.sh"
"$AR7" create --help | grep -qiE -- '--pass(word|phrase)-(file|command|fd)' ||
  fail "only a terminal and AR7_PASSPHRASE give a passphrase"
pass "there is an option"
