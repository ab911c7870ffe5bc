//! Messages to the kernel about what it keeps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;
use std::thread;

use ar7_registry::records::InodeNumber;
use fuser::{INodeNo, Notifier};

/// Asks the kernel for content that it has not passed on yet, or to forget what it has.
#[derive(Default)]
pub(crate) struct Flusher(OnceLock<Notifier>);

impl Flusher {
    pub(crate) fn set(&self, notifier: Notifier) {
        let _ = self.0.set(notifier);
    }

    /// Makes the kernel ask again for inodes and names. That takes other requests, so it happens in another thread.
    pub(crate) fn forget(&self, inodes: Vec<InodeNumber>, names: Vec<(InodeNumber, Vec<u8>)>) {
        let Some(notifier) = self.0.get().cloned() else { return };
        let _ = thread::Builder::new().name("ar7-forget".to_owned()).spawn(move || {
            // Each fails if the kernel has nothing of it.
            for (directory, name) in names {
                let _ = notifier.inval_entry(INodeNo(directory.0), OsStr::from_bytes(&name));
            }
            for number in inodes {
                let _ = notifier.inval_inode(INodeNo(number.0), 0, 0);
            }
        });
    }

    /// Calls `then` once the kernel has written the content of a file. That takes other requests, so it happens in
    /// another thread.
    pub(crate) fn then(&self, number: INodeNo, then: impl FnOnce() + Send + 'static) {
        let Some(notifier) = self.0.get().cloned() else { return then() };
        let _ = thread::Builder::new().name("ar7-flush".to_owned()).spawn(move || {
            // Fails if the kernel has nothing of the file.
            let _ = notifier.inval_inode(number, 0, 0);
            then();
        });
    }
}
