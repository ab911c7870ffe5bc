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
    /// When the thread wakes by itself, if it does. No change from now on is due earlier.
    wakes: Option<Instant>,
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
            if is_large || asked.wakes.is_none() {
                self.wake.notify_one();
            }
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
        // So a program that asks for a commit after each change wakes the thread only for the commit.
        asked.wakes = Instant::now().checked_add(self.interval);
        loop {
            let now = Instant::now();
            let due = asked.changed.and_then(|at| at.checked_add(self.interval));
            let is_due = asked.is_large || due.is_some_and(|due| due <= now);
            if is_due || asked.is_ended || !asked.waiting.is_empty() {
                (asked.changed, asked.is_large, asked.wakes) = (None, false, None);
                return (std::mem::take(&mut asked.waiting), asked.is_ended);
            }
            asked.wakes = due.or(asked.wakes.filter(|at| *at > now));
            asked = match asked.wakes {
                Some(at) => {
                    let woken = self.wake.wait_timeout(asked, at.saturating_duration_since(now));
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_change_is_committed_after_the_interval_however_long_nothing_changed_before() {
        const INTERVAL: Duration = Duration::from_millis(200);
        let commits = Arc::new(Commits::new(INTERVAL, 100));
        let (sender, receiver) = channel();
        let commit = move || {
            sender.send(Instant::now()).expect("a receiver");
            Ok(())
        };
        let thread = start(Arc::clone(&commits), commit).expect("a thread");
        // The thread waits for the interval, and later without a limit.
        for idle in [INTERVAL / 4, 2 * INTERVAL, INTERVAL / 4] {
            thread::sleep(idle);
            let changed = Instant::now();
            commits.changed(1);
            let at = receiver.recv_timeout(Duration::from_secs(60)).expect("a commit");
            assert!(at - changed >= INTERVAL, "{:?} after {idle:?}", at - changed);
        }
        thread::sleep(INTERVAL / 4);
        commits.changed(1);
        commits.changed(100);
        receiver.recv_timeout(Duration::from_secs(60)).expect("a commit of many bytes");
        commits.end();
        thread.join().expect("no panic");
    }
}
