//! Asks the kernel for what programs have written and it has not passed on yet.

use std::sync::OnceLock;
use std::thread;

use fuser::{INodeNo, Notifier};

/// Asks the kernel for content that it has not written yet.
#[derive(Default)]
pub(crate) struct Flusher(OnceLock<Notifier>);

impl Flusher {
    pub(crate) fn set(&self, notifier: Notifier) {
        let _ = self.0.set(notifier);
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
