//! The lock of a whole file (`flock`): shared or exclusive. It belongs to the open file description, as byte-range
//! locks do.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The `flock` of one open. It counts those who share it: the system would end it for all with the first unlock.
#[derive(Debug)]
pub(super) struct Flock {
    file: Arc<File>,
    /// Held during the system calls too, so that the state and the lock agree.
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Shared by this many.
    Shared(u64),
    /// The only lock of the file.
    Exclusive,
}

impl Flock {
    pub(super) fn new(file: &Arc<File>) -> Flock {
        Flock { file: Arc::clone(file), state: Mutex::new(State::Shared(0)) }
    }

    /// Takes a share. Returns false if another open has locked the file exclusively.
    pub(super) fn share(&self) -> io::Result<bool> {
        let mut state = self.state();
        if let State::Shared(holders) = *state {
            if holders == 0 && !is_locked(self.file.try_lock_shared())? {
                return Ok(false);
            }
            *state = State::Shared(holders + 1);
        }
        Ok(true)
    }

    /// Gives a share back.
    pub(super) fn unshare(&self) {
        let mut state = self.state();
        if let State::Shared(holders @ 1..) = *state {
            *state = State::Shared(holders - 1);
            if holders == 1 {
                // Closing the file ends a lock that could not be ended here.
                let _ = self.file.unlock();
            }
        }
    }

    /// Locks the file exclusively. Returns false if another open has locked it, or if this one shares it: a failed
    /// change from shared to exclusive would lose the share.
    pub(super) fn exclude(&self) -> io::Result<bool> {
        let mut state = self.state();
        if *state == State::Shared(0) && is_locked(self.file.try_lock())? {
            *state = State::Exclusive;
        }
        Ok(*state == State::Exclusive)
    }

    /// Returns whether another open has locked the file exclusively.
    pub(super) fn is_excluded(&self) -> io::Result<bool> {
        if *self.state() != State::Shared(0) {
            return Ok(false);
        }
        // The system cannot be asked, so this tries.
        let is_shared = self.share()?;
        if is_shared {
            self.unshare();
        }
        Ok(!is_shared)
    }

    /// Ends the lock, even if readers of this open still share it.
    pub(super) fn end(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut *state, State::Shared(0)) != State::Shared(0) {
            let _ = self.file.unlock();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether an attempt has locked the file.
fn is_locked(attempt: Result<(), TryLockError>) -> io::Result<bool> {
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(source),
    }
}
