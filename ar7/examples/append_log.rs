//! An append-only log: threads append lines at any time, and a commit every 50 ms makes them durable.
//!
//! `cargo run -p ar7 --example append_log`

use std::io::{BufRead as _, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ar7::{Archive, Key, Mode, Result};

const WRITERS: u32 = 4;
const LINES: u32 = 500;
const BETWEEN_COMMITS: Duration = Duration::from_millis(50);

/// Appends lines until all senders are gone. Returns the number of commits.
///
/// Lines wait in the channel during a commit, so that no thread that logs waits for the disk.
fn write_log(archive: &Archive, lines: &Receiver<String>) -> Result<u32> {
    let mut commits = 0;
    let mut is_open = true;
    while is_open {
        let transaction = archive.begin()?;
        let mut log = transaction.open("log", Mode::APPEND)?;
        let until = Instant::now() + BETWEEN_COMMITS;
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => writeln!(log, "{line}")?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    is_open = false;
                    break;
                }
            }
        }
        drop(log);
        transaction.commit()?;
        commits += 1;
    }
    Ok(commits)
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = Archive::create(folder.path().join("log.ar7"), &Key::generate()?)?;
    let (sender, lines) = channel();
    let commits = thread::scope(|scope| {
        for writer in 0..WRITERS {
            let sender = sender.clone();
            scope.spawn(move || {
                for line in 0..LINES {
                    if sender.send(format!("writer {writer}, line {line}")).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        drop(sender);
        write_log(&archive, &lines)
    })?;
    let stored = archive.snapshot()?.open("log")?.lines().count();
    assert_eq!(stored, (WRITERS * LINES) as usize);
    println!("{stored} lines in {commits} commits");
    archive.close()
}
