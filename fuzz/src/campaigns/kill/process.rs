//! Runs one process, watches it and kills it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ar7::Count;
use xtask::error::{Error, Result};
use xtask::workspace::shown;

const SIGKILL: i32 = 9;

/// When to kill.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// This long after the start.
    After(Duration),
    /// This long after this many checkpoints were reported.
    AfterCheckpoint(u64, Duration),
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Whether it was still running when it was killed.
    pub(super) killed: bool,
    /// The number of entries that the last checkpoint reported.
    pub(super) checkpoint: Option<u64>,
    status: ExitStatus,
    command: String,
    errors: String,
}

impl Ended {
    /// Fails unless the process ended successfully without a kill.
    pub(super) fn into_success(self) -> Result<()> {
        self.into_one_of(&[0])
    }

    /// Fails unless the process ended with one of these exit codes, without a kill.
    pub(super) fn into_one_of(self, codes: &[i32]) -> Result<()> {
        let Ended { status, command, errors, .. } = self;
        if status.code().is_some_and(|code| codes.contains(&code)) {
            return Ok(());
        }
        Err(Error::Status { command, status: status.to_string(), expected: 0, errors })
    }
}

/// Starts `command` and kills it at `moment`, unless it ends first.
pub(super) fn run_until(mut command: Command, moment: Moment) -> Result<Ended> {
    let line = shown(&command);
    let fail = |source| Error::Start { command: line.clone(), source };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(fail)?;
    let lines = read_lines(&mut child);
    let mut watch =
        Watch { checkpoints: 0, last: None, errors: String::new(), moment, deadline: None };
    if let Moment::After(time) = moment {
        watch.deadline = Some(Instant::now() + time);
    }
    if watch.moment_comes(&lines) {
        child.kill().map_err(fail)?;
    }
    let status = child.wait().map_err(fail)?;
    // Output from before the kill counts: a reader may have relied on it.
    for text in lines {
        watch.take(&text);
    }
    Ok(Ended {
        killed: status.signal() == Some(SIGKILL),
        checkpoint: watch.last,
        status,
        command: line,
        errors: watch.errors,
    })
}

/// What has been seen of a process.
struct Watch {
    checkpoints: u64,
    last: Option<u64>,
    errors: String,
    moment: Moment,
    deadline: Option<Instant>,
}

impl Watch {
    /// Waits for the moment. Returns false if the process closed its standard error first, which means that it has
    /// ended.
    fn moment_comes(&mut self, lines: &Receiver<String>) -> bool {
        loop {
            let received = match self.deadline {
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                }
            };
            match received {
                Ok(text) => self.take(&text),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, text: &str) {
        self.errors.push_str(text);
        self.errors.push('\n');
        let Some(entries) = reported_entries(text) else { return };
        self.checkpoints += 1;
        self.last = Some(entries);
        match self.moment {
            Moment::AfterCheckpoint(number, time) if number == self.checkpoints => {
                self.deadline = Some(Instant::now() + time);
            }
            _ => {}
        }
    }
}

/// Reads the process's standard error in a thread, so that the caller can wait with a timeout.
fn read_lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(errors) = child.stderr.take() {
        thread::spawn(move || {
            for line in BufReader::new(errors).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Parses the number of entries in "checkpoint N: E entries, B bytes".
pub(crate) fn reported_entries(line: &str) -> Option<u64> {
    let (number, rest) = line.strip_prefix("checkpoint ")?.split_once(": ")?;
    let (entries, bytes) = rest.split_once(", ")?;
    // A line truncated by the kill was not reported.
    number.parse::<u64>().ok()?;
    counted(bytes, "byte")?;
    counted(entries, "entry")
}

/// Parses a whole [`Count`].
fn counted(text: &str, name: &'static str) -> Option<u64> {
    let count = text.split(' ').next()?.parse().ok()?;
    (Count(count, name).to_string() == text).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_is_killed_at_its_time() {
        let started = Instant::now();
        let moment = Moment::After(Duration::from_millis(50));
        let ended = run_until(shell("exec sleep 60"), moment).unwrap();
        assert!(ended.killed && ended.checkpoint.is_none());
        assert!(started.elapsed() >= Duration::from_millis(50));
        assert!(ended.into_success().is_err());
    }

    #[test]
    fn a_process_is_killed_after_its_checkpoint() {
        let script = "echo checkpoint 1: 10 entries, 5 bytes >&2
            echo checkpoint 2: 20 entries, 9 bytes >&2; exec sleep 60";
        let moment = Moment::AfterCheckpoint(2, Duration::ZERO);
        let ended = run_until(shell(script), moment).unwrap();
        assert!(ended.killed);
        assert_eq!(ended.checkpoint, Some(20));
    }

    #[test]
    fn a_process_that_ends_first_is_not_killed() {
        let script = "echo checkpoint 1: 7 entries, 5 bytes >&2; exit 3";
        let ended = run_until(shell(script), Moment::After(Duration::from_mins(1))).unwrap();
        assert!(!ended.killed);
        assert_eq!(ended.checkpoint, Some(7));
        assert!(ended.into_success().unwrap_err().to_string().contains('3'));
    }

    #[test]
    fn only_whole_checkpoint_lines_count() {
        assert_eq!(reported_entries("checkpoint 3: 1200 entries, 4194304 bytes"), Some(1200));
        assert_eq!(reported_entries("checkpoint 1: 1 entry, 0 bytes"), Some(1));
        assert_eq!(reported_entries("checkpoint 1: 2 entries, 1 byte"), Some(2));
        for line in [
            "checkpoint 3: 1200 entries, 4194",
            "checkpoint 3: 1200 entries, 4194304 byte",
            "checkpoint 3: 12",
            "3 entries, 4 bytes",
        ] {
            assert_eq!(reported_entries(line), None, "{line}");
        }
    }
}
