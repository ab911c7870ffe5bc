#!/usr/bin/env bash
# restic/restic#836: names typed with a leading ./ when something is restored.
# ./src/f names src/f for extract, ls and cat.
. "$(dirname "$0")/common.sh"
mkdir src; echo x > src/f; "$AR7" -q ingest a.ar7 src
"$AR7" cat a.ar7 ./src/f >/dev/null 2>err && "$AR7" -q extract a.ar7 ./src/f --to out 2>>err || fail "$(head -1 err)"
pass "./src/f is src/f"
