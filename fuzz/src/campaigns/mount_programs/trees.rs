//! `rsync` of an odd tree into a mounted archive and out of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use xtask::error::{Error, Result};

use super::place::{Work, finish};
use crate::Random;
use crate::campaigns::tree::{self, Shape};

/// An access control list as Linux stores it: version 2, then tag, permissions and number of each entry. The owner may
/// read and write, the user 1234 may read, as the group and everybody else, and so says the mask.
const LIST: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 210, 4, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

/// Copies a tree in and out, and compares.
pub(super) fn run(work: &Work<'_>) -> Result<String> {
    let (tree, out) = (work.folder.join("odd"), work.folder.join("out"));
    let files = if work.is_sample { 200 } else { 2000 };
    let shape = Shape { files, large_files: if work.is_sample { 0 } else { 2 } };
    tree::generate(&tree, shape, &mut Random::new(work.seed))?;
    make_odd(&tree).map_err(Error::io("make an odd tree in", &tree))?;
    let place = work.place("rsync")?;
    place.with(|mount| copy(&tree, &mount.join("in")))?;
    place.with(|mount| {
        same(&tree, &mount.join("in"))?;
        copy(&mount.join("in"), &out)
    })?;
    same(&tree, &out)?;
    let (entries, bytes) = xtask::trees::measure(&out)?;
    // Again, so that names are replaced.
    place.with(|mount| {
        tree::change(&tree, 5, &mut Random::new(work.seed))?;
        copy(&tree, &mount.join("in"))?;
        same(&tree, &mount.join("in"))
    })?;
    Ok(format!("copied {entries} entries with {bytes} bytes in and out"))
}

fn rsync(options: &[&str], from: &Path, to: &Path) -> Result<String> {
    let mut command = Command::new("rsync");
    // With nanoseconds. The slash stands for what the directory has.
    command.arg("--modify-window=-1").args(options).arg(from.join("")).arg(to.join(""));
    finish(&mut command)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    rsync(&["-aHAX", "--sparse", "--delete"], from, to).map(drop)
}

/// Fails if `rsync` finds a difference, by the content of all files.
fn same(from: &Path, to: &Path) -> Result<()> {
    let found = rsync(&["-aHAXn", "--checksum", "--delete", "--itemize-changes"], from, to)?;
    if found.is_empty() { Ok(()) } else { Err(Error::Output { what: "a difference", found }) }
}

/// Adds what trees rarely have.
fn make_odd(root: &Path) -> io::Result<()> {
    let odd = root.join("odd");
    fs::create_dir_all(odd.join("a/b/c/d/e/f/g/h"))?;
    fs::write(odd.join("new\nline \\ and \u{1f980}"), "odd name")?;
    fs::write(odd.join(OsStr::from_bytes(b"\xff\xfe\x01")), "no text")?;
    fs::write(odd.join("n".repeat(255)), "longest name")?;
    symlink("t".repeat(4000), odd.join("long link"))?;
    let sparse = File::create(odd.join("sparse"))?;
    sparse.write_all_at(b"in the middle", 4_000_000)?;
    sparse.set_len(8_000_000)?;
    for (name, mode) in [("sticky", 0o1777), ("read-only", 0o400), ("privileged", 0o6755)] {
        fs::write(odd.join(name), name)?;
        fs::set_permissions(odd.join(name), fs::Permissions::from_mode(mode))?;
    }
    fs::hard_link(odd.join("sparse"), odd.join("a/b/sparse too"))?;
    let before = SystemTime::UNIX_EPOCH - Duration::new(1_000_000_000, 123_456_789);
    File::create(odd.join("old"))?.set_modified(before)?;
    mknodat(CWD, odd.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
    // The socket stays when its listener is gone.
    drop(UnixListener::bind(odd.join("socket"))?);
    // A file system without them leaves these out.
    let _ = xattr::set(odd.join("sticky"), "user.note", &[7; 1000]);
    let _ = xattr::set(odd.join("a"), "user.empty", b"");
    let _ = xattr::set(odd.join("a"), "system.posix_acl_default", &LIST);
    if rustix::process::geteuid().is_root() {
        fs::write(odd.join("of others"), "others")?;
        fs::set_permissions(odd.join("of others"), fs::Permissions::from_mode(0o0))?;
        chown(odd.join("of others"), Some(1234), Some(4_000_000_000))?;
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, odd.join("device"), FileType::CharacterDevice, mode, 0x0103)?;
    }
    Ok(())
}
