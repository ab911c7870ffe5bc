# Sourced by each check. AR7 is the program and T a scratch directory. A check exits 0 if the program is right, 1 if it
# is wrong, and 77 if the machine lacks what the check needs.
set -u
: "${AR7:?the program}" "${T:?a scratch directory}"
export AR7
W=$T/$(basename "$0" .sh)
clean() { cd /; chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }
pass() { echo "ok: $*"; exit 0; }
fail() { echo "failed: $*"; exit 1; }
skip() { echo "skipped: $*"; exit 77; }
clean; mkdir -p "$W" && cd "$W" || exit 2
trap clean EXIT
unset AR7_PASSPHRASE
"$AR7" -q keygen key >/dev/null 2>&1 || fail "keygen"
export AR7_KEY_FILE=$W/key

# Prepares to run commands as a normal user: as nobody if the caller is the superuser.
if [ "$(id -u)" = 0 ]; then
  as() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
  own() { chown -hR 65534:65534 "$W"; }
else
  as() { "$@"; }
  own() { :; }
fi
