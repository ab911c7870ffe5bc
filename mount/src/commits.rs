//! When to commit: after an interval, after a number of bytes, and when a program asks for it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::{Errno, ReplyEmpty};

use crate::handles::lock;

/// The requests for a commit. One thread makes the commits, and no request waits in a thread of its own: those that
/// arrive during a commit share the next one.
pub(crate) struct Commits {
    interval: Duration,
    bytes: u64,
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Default)]
struct Asked {
    waiting: Vec<ReplyEmpty>,
    /// When the first change since the last commit was made.
    changed: Option<Instant>,
    is_large: bool,
    is_ended: bool,
    /// Whether the thread has ended, so that nobody answers any more.
    is_over: bool,
}

/// Ends the answers when the thread ends, also by a panic.
struct Answers<'a>(&'a Commits);

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        let mut asked = lock(&self.0.asked);
        asked.is_over = true;
        for reply in std::mem::take(&mut asked.waiting) {
            reply.error(Errno::EIO);
        }
    }
}

impl Commits {
    pub(crate) fn new(interval: Duration, bytes: u64) -> Commits {
        Commits { interval, bytes, asked: Mutex::default(), wake: Condvar::new() }
    }

    /// Notes a change, and the number of bytes of content that were written since the last commit.
    pub(crate) fn changed(&self, bytes: u64) {
        let mut asked = lock(&self.asked);
        let is_large = bytes >= self.bytes;
        if asked.changed.is_none() || is_large && !asked.is_large {
            asked.changed.get_or_insert_with(Instant::now);
            asked.is_large = is_large;
            self.wake.notify_one();
        }
    }

    /// Answers a program after the next commit that has everything that was changed before this call.
    pub(crate) fn ask(&self, reply: ReplyEmpty) {
        let mut asked = lock(&self.asked);
        if asked.is_over {
            drop(asked);
            return reply.error(Errno::EIO);
        }
        asked.waiting.push(reply);
        self.wake.notify_one();
    }

    /// Notes that a commit was refused, so that the next one comes after the interval.
    fn refused(&self) {
        lock(&self.asked).changed.get_or_insert_with(Instant::now);
    }

    /// Ends the thread.
    pub(crate) fn end(&self) {
        lock(&self.asked).is_ended = true;
        self.wake.notify_one();
    }

    /// Waits for a reason to commit. Returns whom to answer, and whether this was the last time.
    fn next(&self) -> (Vec<ReplyEmpty>, bool) {
        let mut asked = lock(&self.asked);
        loop {
            let left = asked.changed.map(|at| self.interval.saturating_sub(at.elapsed()));
            let is_due = asked.is_large || left.is_some_and(|left| left.is_zero());
            if is_due || asked.is_ended || !asked.waiting.is_empty() {
                (asked.changed, asked.is_large) = (None, false);
                return (std::mem::take(&mut asked.waiting), asked.is_ended);
            }
            asked = match left {
                Some(left) => {
                    let woken = self.wake.wait_timeout(asked, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(asked).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Starts the thread that makes the commits until [`Commits::end`] is called.
pub(crate) fn start(
    commits: Arc<Commits>,
    commit: impl FnMut() -> Result<(), Errno> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("ar7-commit".to_owned()).spawn(move || run(&commits, commit))
}

fn run(commits: &Commits, mut commit: impl FnMut() -> Result<(), Errno>) {
    let _answers = Answers(commits);
    loop {
        let (waiting, is_last) = commits.next();
        let outcome = commit();
        if outcome.is_err() {
            commits.refused();
        }
        for reply in waiting {
            match outcome {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error),
            }
        }
        if is_last {
            return;
        }
    }
}
