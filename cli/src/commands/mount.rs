//! The commands `mount` and `unmount`.

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ar7_mount::{Access, Mount, Options, Unmounted};
use serde_json::json;

use crate::arguments::{Common, MountAt, Unmount};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output;

/// Set for the process in the background.
const IN_BACKGROUND: &str = "AR7_MOUNT_IN_BACKGROUND";

/// What the process in the background prints once programs can use the directory.
const READY: &[u8] = b"ready\n";

/// How often the process looks for a signal, and for the end of the mount.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a lazy unmount leaves.
const IN_USE: &str = "programs have files open there: the archive is closed when they are done";
const NO_ANSWER: &str =
    "the process that serves the directory does not answer: it may still have the archive open";

/// Shows an archive as a directory.
pub(super) fn mount(common: &Common, path: &Path, options: &MountAt) -> Result<(), Failure> {
    let is_in_background = env::var_os(IN_BACKGROUND).is_some();
    if !options.foreground && !is_in_background {
        return start(common);
    }
    let access = match options {
        options if options.snapshot_follow => Access::Follow,
        options if options.read_only => Access::Snapshot,
        _ => Access::ReadWrite,
    };
    let is_writer = access == Access::ReadWrite;
    let archive = if is_writer { common.writer(path)? } else { common.reader(path)? };
    let interrupt = Interrupt::catch()?;
    let chosen = Options {
        access,
        allow_other: options.allow_other,
        commit_interval: Duration::from_secs(options.commit_interval.into()),
        commit_bytes: options.commit_size.0,
        report: |line| output::warn(&line),
    };
    let failed = |error| Failure::file(&options.directory, "mount", error);
    let mount = Mount::new(archive, &options.directory, &chosen).map_err(failed)?;
    if is_in_background {
        leave_terminal(options).map_err(|source| Failure::System { what: "background", source })?;
    }
    while !mount.is_ended() && !interrupt.is_set() {
        thread::sleep(LOOK_EVERY);
    }
    mount.unmount().map_err(|error| Failure::file(&options.directory, "unmount", error))
}

/// Unmounts a directory.
pub(super) fn unmount(options: &Unmount) -> Result<(), Failure> {
    let unmounted = ar7_mount::unmount(&options.directory, options.lazy)
        .map_err(|error| Failure::file(&options.directory, "unmount", error))?;
    match unmounted {
        Unmounted::InUse => output::warn(&IN_USE),
        Unmounted::NoAnswer => output::warn(&NO_ANSWER),
        _ => {}
    }
    Ok(())
}

/// Starts the same command in the background, and returns once programs can use the directory. A new process, because
/// a fork of this one would have none of its threads.
fn start(common: &Common) -> Result<(), Failure> {
    let failed = |source| Failure::System { what: "background", source };
    let mut command = Command::new(env::current_exe().map_err(failed)?);
    command.args(env::args_os().skip(1)).env(IN_BACKGROUND, "1").stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        let most = READY.len() as u64;
        stdout.take(most).read_to_end(&mut said).map_err(failed)?;
    }
    if said == READY {
        return output::report(common, &json!({ "process": child.id() }), None);
    }
    // It has reported why.
    let status = child.wait().map_err(failed)?;
    std::process::exit(status.code().unwrap_or(1))
}

/// Says that the mount is ready, and lets go of the terminal and of the session of the shell.
fn leave_terminal(options: &MountAt) -> io::Result<()> {
    let log = options.log.as_deref().unwrap_or(Path::new("/dev/null"));
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
