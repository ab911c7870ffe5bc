//! A program that continues in the background once its mount is ready.

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Set for the process in the background.
const IN_BACKGROUND: &str = "AR7_MOUNT_IN_BACKGROUND";

/// What the process in the background prints once programs can use the directory.
const READY: &[u8] = b"ready\n";

/// How a program in the background began.
#[derive(Debug)]
pub enum Started {
    /// It has called [`enter_background`].
    Ready {
        /// The number of its process.
        process: u32,
    },
    /// It ended before, and has reported why on standard error.
    Ended(ExitStatus),
}

/// Returns whether [`start_in_background`] started this process.
pub fn is_in_background() -> bool {
    env::var_os(IN_BACKGROUND).is_some()
}

/// Starts this program again, with the same arguments, in the background. Returns when that process calls
/// [`enter_background`] or ends. It is a new process, because a fork of this one would have none of its threads.
pub fn start_in_background() -> io::Result<Started> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(IN_BACKGROUND, "1").stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.take(READY.len() as u64).read_to_end(&mut said)?;
    }
    if said == READY {
        return Ok(Started::Ready { process: child.id() });
    }
    Ok(Started::Ended(child.wait()?))
}

/// Tells the process that started this one that the mount is ready, and leaves the terminal and the session of the
/// shell. From then on, standard error is appended to the log, if there is one.
pub fn enter_background(log: Option<&Path>) -> io::Result<()> {
    let log = log.unwrap_or(Path::new("/dev/null"));
    let log = File::options().append(true).create(true).open(log)?;
    rustix::process::setsid()?;
    let mut stdout = io::stdout();
    stdout.write_all(READY)?;
    stdout.flush()?;
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}
