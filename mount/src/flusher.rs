//! Messages to the kernel about what it keeps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use ar7_registry::records::InodeNumber;
use fuser::{INodeNo, Notifier};

/// Asks the kernel for content that it has not passed on yet, or to forget what it has.
#[derive(Default)]
pub(crate) struct Flusher {
    notifier: OnceLock<Notifier>,
    /// Passes work to the thread that does it; `None` if the system has no thread for it.
    work: OnceLock<Option<Sender<Work>>>,
}

type Work = Box<dyn FnOnce() + Send>;

impl Flusher {
    pub(crate) fn set(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// Makes the kernel ask again for inodes and names. That takes other requests, so it happens in another thread.
    pub(crate) fn forget(&self, inodes: Vec<InodeNumber>, names: Vec<(InodeNumber, Vec<u8>)>) {
        let Some(notifier) = self.notifier.get().cloned() else { return };
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

    /// Calls `then`, with `writes` once the kernel has written the content of a file. That takes other requests, and `then`
    /// may take long, so all of it happens in one thread, in order.
    pub(crate) fn then(&self, number: INodeNo, writes: bool, then: impl FnOnce() + Send + 'static) {
        let notifier = self.notifier.get().filter(|_| writes).cloned();
        let work: Work = Box::new(move || {
            // Fails if the kernel has nothing of the file.
            let _ = notifier.map(|notifier| notifier.inval_inode(number, 0, 0));
            then();
        });
        match self.work.get_or_init(start) {
            Some(sender) => drop(sender.send(work)),
            None => work(),
        }
    }
}

fn start() -> Option<Sender<Work>> {
    let (sender, receiver) = channel::<Work>();
    let work = move || {
        for work in receiver {
            // What panics has dropped its reply, which answers with an error.
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    };
    thread::Builder::new().name("ar7-seek".to_owned()).spawn(work).ok().map(|_| sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_does_the_work_in_order_and_survives_a_panic() {
        let flusher = Flusher::default();
        let (sender, receiver) = channel();
        for number in 0..100 {
            let sender = sender.clone();
            flusher.then(INodeNo(1), true, move || {
                assert!(number != 50, "injected");
                sender.send((number, thread::current().id())).expect("a receiver");
            });
        }
        drop(sender);
        let done: Vec<_> = receiver.into_iter().collect();
        assert!(done.iter().map(|(number, _)| *number).eq((0..100).filter(|number| *number != 50)));
        assert!(done.iter().all(|(_, thread)| *thread == done[0].1));
        assert_ne!(done[0].1, thread::current().id());
    }
}
