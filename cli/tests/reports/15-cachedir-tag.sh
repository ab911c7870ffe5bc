#!/usr/bin/env bash
# restic/restic#317, andrewchambers/bupstash#243, PlakarKorp/plakar#1078: directories tagged as caches.
# --exclude-caches excludes the contents of a directory with a valid CACHEDIR.TAG.
. "$(dirname "$0")/common.sh"
mkdir -p src/target; echo x > src/target/o; echo y > src/main
printf 'Signature: 8a477f597d28d172789f06886806bc55\n' > src/target/CACHEDIR.TAG
"$AR7" -q ingest --exclude-caches a.ar7 src 2>err || fail "$(head -1 err)"
"$AR7" ls -R a.ar7 | grep -q '^src/target/o' && fail "a tagged cache is stored"
pass "a tagged cache is excluded"
