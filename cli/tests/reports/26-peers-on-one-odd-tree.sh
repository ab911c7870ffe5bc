#!/usr/bin/env bash
# One odd tree through ar7, restic, borg and tar: whatever one of the others restores, ar7 restores too.
. "$(dirname "$0")/common.sh"
have=()
for peer in restic borg tar; do command -v "$peer" >/dev/null && have+=("$peer"); done
[ ${#have[@]} -gt 0 ] && command -v python3 >/dev/null || skip "no restic, borg or tar here, or no python3"
cat >odd.py <<'P'
import hashlib, os, socket, stat, struct, sys

def attempt(work, *arguments):
    try:
        work(*arguments)
    except OSError:
        pass  # This file system, or this user, cannot have it.

def write(path, data=b"content"):
    with open(path, "wb") as file:
        file.write(data)

def make(top):
    at = lambda name: os.path.join(os.fsencode(top), name if isinstance(name, bytes) else name.encode())
    os.makedirs(at("deep/" + "/".join("d" * 200 for _ in range(3))))
    for name in [b"odd \xff\x01", b"new\nline", b"-dash", b" ", b"n" * 255, "\u00e4".encode(), "a\u0308".encode(), b"*?[a]"]:
        write(at(name), b"named " + name)
    write(at("empty"), b"")
    write(at("large"), bytes(range(256)) * 8000)
    os.link(at("large"), at("deep/hard link"))
    for name, target in [("link", "large"), ("dangling", "nowhere"), ("loop", "loop"), ("long", "t" * 4000), ("absolute", "/etc/passwd")]:
        os.symlink(target, at(name))
    os.mkfifo(at("fifo"), 0o640)
    attempt(lambda: socket.socket(socket.AF_UNIX).bind(at("socket")))
    attempt(os.mknod, at("character"), stat.S_IFCHR | 0o660, os.makedev(1, 3))
    attempt(os.mknod, at("block"), stat.S_IFBLK | 0o660, os.makedev(7, 300))
    with open(at("sparse"), "wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"middle")
    write(at("attributes"))
    attempt(os.setxattr, at("attributes"), "user.note", b"important\0bytes")
    attempt(os.setxattr, at("attributes"), "user.large", b"v" * 3000)
    attempt(os.setxattr, at("deep"), "user.folder", b"yes")
    attempt(os.setxattr, at("large"), "user.large", b"of a file that is read in pieces")
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 7, 12345), (4, 4, nobody), (16, 7, nobody), (32, 0, nobody)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, mode, who) for tag, mode, who in entries)
    write(at("acl"))
    attempt(os.setxattr, at("acl"), "system.posix_acl_access", acl)
    os.mkdir(at("inherit"))
    attempt(os.setxattr, at("inherit"), "system.posix_acl_default", acl)
    write(at("capability"))
    attempt(os.setxattr, at("capability"), "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    write(at("owned"))
    attempt(os.chown, at("owned"), 12345, 23456)
    for name, mode in [("setuid", 0o4755), ("unreadable", 0), ("sticky", 0o1777)]:
        os.mkdir(at(name)) if name == "sticky" else write(at(name))
        os.chmod(at(name), mode)
    os.mkdir(at("read only"))
    write(at("read only/file"))
    for name, time in [("empty", -1_500_000_001), ("large", 1), ("acl", 4_102_444_800_123_456_789), ("inherit", 5), ("deep", 999)]:
        os.utime(at(name), ns=(0, time))
    os.utime(at("link"), ns=(0, 77_000_000_001), follow_symlinks=False)
    os.chmod(at("read only"), 0o555)
    os.utime(at("read only"), ns=(0, 1_000_000_000))

def facts(top):
    """Yields each fact about the tree: path, property and value."""
    inodes = {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for path in [folder] + [os.path.join(folder, name) for name in files]:
            yield from facts_of(os.path.relpath(path, os.fsencode(top)), path, inodes)
        for name in list(folders):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                yield from facts_of(os.path.relpath(path, os.fsencode(top)), path, inodes)

def facts_of(name, path, inodes):
    found = os.lstat(path)
    first = inodes.setdefault(found.st_ino, name) if stat.S_ISREG(found.st_mode) else name
    yield name, "type", stat.S_IFMT(found.st_mode)
    yield name, "mode", stat.S_IMODE(found.st_mode)
    yield name, "owner", (found.st_uid, found.st_gid)
    yield name, "time", found.st_mtime_ns
    yield name, "same file as", min(first, name)
    if stat.S_ISLNK(found.st_mode):
        yield name, "target", os.readlink(path)
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        yield name, "device", found.st_rdev
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            yield name, "content", hashlib.sha256(file.read()).hexdigest()
        yield name, "holes", found.st_blocks * 512 < found.st_size
    for attribute in os.listxattr(path, follow_symlinks=False):
        yield name, "attribute " + attribute, os.getxattr(path, attribute, follow_symlinks=False)

if sys.argv[1] == "make":
    make(sys.argv[2])
else:
    source, ours, *others = [set(facts(top)) for top in sys.argv[2:]]
    restored = set().union(*(source & other for other in others))
    for name, what, value in sorted(restored - ours, key=str):
        print(os.fsdecode(name).encode("unicode_escape").decode(), what, str(value)[:60])
    print(len(restored), "facts restored by others,", len(source & ours), "of", len(source), "by ar7", file=sys.stderr)
P
mkdir src && python3 odd.py make src || fail "the tree could not be made"
"$AR7" -q ingest a.ar7 src || fail "ingest: exit $?"
options="--preserve-special"; [ "$(id -u)" = 0 ] && options="$options --preserve-owner"
mkdir out-ar7 && "$AR7" -q extract a.ar7 --to out-ar7 $options || fail "extract: exit $?"
"$AR7" -q verify a.ar7 || fail "verify: exit $?"
restored=()
for peer in "${have[@]}"; do
  mkdir "out-$peer"
  case $peer in
  tar) tar --xattrs --xattrs-include='*' --acls -cSpf a.tar src
    tar --xattrs --xattrs-include='*' --acls -xpf a.tar -C out-tar ;;
  restic) export RESTIC_PASSWORD=x RESTIC_REPOSITORY=$PWD/restic RESTIC_CACHE_DIR=$PWD/cache
    restic -q init && restic -q backup src && {
      restic -q restore latest --sparse --target out-restic ||
        restic -q restore latest --target out-restic # before version 0.15
    } ;;
  borg) export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_BASE_DIR=$PWD/borg-base
    borg init -e none borg && borg create borg::a src && (cd out-borg && borg extract --sparse ../borg::a) ;;
  esac >/dev/null 2>&1
  [ -s "out-$peer/src/large" ] || fail "$peer restored nothing"
  restored+=("out-$peer/src")
done
python3 odd.py compare src out-ar7/src "${restored[@]}" >missing 2>counts || fail "compare: $(tail -1 counts)"
[ -s missing ] && fail "restored by ${have[*]} and not by ar7: $(head -5 missing)"
pass "$(tail -1 counts) (with ${have[*]})"
