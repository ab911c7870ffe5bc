//! Paths, as bytes.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Returns the bytes of a path.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
