//! Write-back started early: `sync_file_range`, where the system has it.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// Starts writing the dirty pages of a region to the disk, without waiting for them.
///
/// A file system that cannot do so is no failure: the sync that follows writes everything.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn start(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the call is given no memory, and `file` keeps its descriptor open for the
    // whole of it.
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

/// Does nothing: the system has no call that starts a write without waiting for it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn start(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}
