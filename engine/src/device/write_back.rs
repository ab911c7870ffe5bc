//! Early write-back with `sync_file_range`, on systems that have it.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// Starts to write the dirty pages of a region to the disk, and does not wait.
///
/// A file system without support is no error: the next sync writes everything.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn start(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the call takes no memory, and `file` keeps its descriptor open during the call.
    let answer = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ESPIPE | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

/// Does nothing: this system cannot start write-back without waiting for it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn start(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}
