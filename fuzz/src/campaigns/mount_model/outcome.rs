//! What both directories must agree on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;

/// The outcome of an operation.
pub(super) type Outcome = std::result::Result<Vec<u8>, Errno>;

/// The text of an operation, and its outcome in the mount and in the host's directory.
pub(super) type Compared = (String, [Outcome; 2]);

pub(super) fn nothing<T>(_: T) -> Vec<u8> {
    Vec::new()
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
pub(super) fn number_of(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

pub(super) fn names_in(path: &Path) -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(number_of)? {
        let entry = entry.map_err(number_of)?;
        let kind = entry.file_type().map_err(number_of)?;
        names.push(format!("{} {kind:?}\n", entry.file_name().display()));
    }
    names.sort_unstable();
    Ok(names.concat().into_bytes())
}

pub(super) fn status_of(path: &Path) -> Outcome {
    let found = fs::symlink_metadata(path).map_err(number_of)?;
    let target = if found.is_symlink() {
        fs::read_link(path).map_err(number_of)?.into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    Ok([status(&found), target].concat())
}

/// Returns what both directories must agree on. The number of links and the length of a directory are the file
/// system's own, and the times of what was just changed differ.
pub(super) fn status(found: &fs::Metadata) -> Vec<u8> {
    let own = if found.is_dir() { (0, 0) } else { (found.nlink(), found.len()) };
    let set = if found.mtime() < 1_700_000_000 || found.mtime() > 2_500_000_000 {
        (found.mtime(), found.mtime_nsec())
    } else {
        (0, 0)
    };
    format!("{:o} {own:?} {} {} {set:?}", found.mode(), found.uid(), found.gid()).into_bytes()
}

pub(super) fn shown(outcome: &Outcome) -> String {
    match outcome {
        Ok(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if text.len() < 2000 => format!("{text:?}"),
            _ => format!("{} bytes", bytes.len()),
        },
        Err(error) => error.to_string(),
    }
}
