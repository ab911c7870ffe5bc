//! Locks between processes, which end with the process that holds them.
//!
//! They are `flock` locks and belong to the open file: two opens exclude each other even within one process, a lock
//! survives a rename, and a crash leaves no lock file.

use std::fs::{File, TryLockError};

use crate::{Error, Result};

/// Locks `file` against every other open of it, without waiting.
pub(super) fn exclusive(file: &File) -> Result<()> {
    file.try_lock().map_err(not_locked)
}

/// Locks `file` against being locked exclusively, without waiting.
pub(super) fn shared(file: &File) -> Result<()> {
    file.try_lock_shared().map_err(not_locked)
}

fn not_locked(error: TryLockError) -> Error {
    match error {
        TryLockError::WouldBlock => Error::Locked { path: None },
        TryLockError::Error(source) => Error::io("lock", source),
    }
}
