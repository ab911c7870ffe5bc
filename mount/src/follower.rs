//! Moves a reader to new commits of a writer in another process.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ar7_registry::Archive;

/// How often it looks for a new commit.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread that looks for new commits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(crate) fn start(archive: Archive) -> io::Result<Follower> {
        let (end, ended) = channel();
        let thread = thread::Builder::new().name("ar7-follow".to_owned()).spawn(move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                // A writer in the middle of a change, or damage: what was read before stays readable.
                let _ = archive.refresh();
            }
        })?;
        Ok(Follower { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
