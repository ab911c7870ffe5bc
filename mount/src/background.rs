//! A program that continues in the background once its mount is ready.

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Set for the process in the background: the number of the process that started it, which tells it from programs that it
/// starts itself.
const STARTED_BY: &str = "AR7_MOUNT_STARTED_BY";

/// What the process in the background prints once programs can use the directory.
const READY: &[u8] = b"ready\n";

/// The outcome of [`start_in_background`].
#[derive(Debug)]
pub enum Started {
    /// The process has called [`enter_background`], and goes on.
    Ready(Child),
    /// It ended before. Its messages are on the standard error of this process.
    Ended(ExitStatus),
}

/// Returns whether [`start_in_background`] started this process.
pub fn is_in_background() -> bool {
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
    parent.is_some_and(|parent| env::var(STARTED_BY).is_ok_and(|by| by == parent))
}

/// Starts this program again, with the same arguments, in the background. Returns when that process calls
/// [`enter_background`] or ends. It must not print anything on standard output before. It is a new process, because a fork
/// of this one would have none of its threads.
pub fn start_in_background() -> io::Result<Started> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).stdout(Stdio::piped());
    command.env(STARTED_BY, std::process::id().to_string());
    let mut child = command.spawn()?;
    let mut message = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(READY.len() as u64).read_to_end(&mut message)?;
    }
    if message == READY {
        return Ok(Started::Ready(child));
    }
    Ok(Started::Ended(child.wait()?))
}

/// Tells the process that started this one that the mount is ready, and leaves the terminal and the session of the
/// shell. From then on, standard input and output are `/dev/null`, and so is standard error, or it is appended to the log.
pub fn enter_background(log: Option<&Path>) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let log = log.map(|log| File::options().append(true).create(true).open(log)).transpose()?;
    rustix::process::setsid()?;
    rustix::stdio::dup2_stdin(&null)?;
    let mut stdout = io::stdout();
    stdout.write_all(READY)?;
    stdout.flush()?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(log.as_ref().unwrap_or(&null))?;
    Ok(())
}
