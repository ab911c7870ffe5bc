//! A mounted archive, and the process that serves it.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::workspace::output;

/// How long a killed process may take to end.
const ENDS_WITHIN: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A mounted archive. Dropping it unmounts the directory.
pub(crate) struct Mounted<'a> {
    ar7: &'a Ar7,
    directory: &'a Path,
    is_served: bool,
    /// The process that serves the directory, if it has not ended yet.
    process: Option<OwnedFd>,
}

impl<'a> Mounted<'a> {
    pub(crate) fn new(
        ar7: &'a Ar7,
        archive: &Path,
        directory: &'a Path,
        options: &[&str],
    ) -> Result<Mounted<'a>> {
        Mounted::in_environment(ar7, archive, directory, options, &[])
    }

    /// Mounts an archive. The process that serves it has more variables in its environment.
    pub(crate) fn in_environment(
        ar7: &'a Ar7,
        archive: &Path,
        directory: &'a Path,
        options: &[&str],
        environment: &[(&str, &Path)],
    ) -> Result<Mounted<'a>> {
        let mut command = ar7.command(["mount".as_ref(), archive.as_os_str()]);
        command.arg(directory).args(options).arg("--json").envs(environment.iter().copied());
        let printed = output(&mut command)?;
        let stdout = String::from_utf8_lossy(&printed.stdout).into_owned();
        let document: Value = serde_json::from_str(&stdout).unwrap_or_default();
        let number = document["process"].as_i64().and_then(|it| i32::try_from(it).ok());
        let Some(process) = number.and_then(Pid::from_raw) else {
            let errors = String::from_utf8_lossy(&printed.stderr);
            return Err(Error::Output { what: "mount", found: format!("{stdout}{errors}") });
        };
        let process = match pidfd_open(process, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(Errno::SRCH) => None,
            Err(error) => return Err(Error::io("watch the server of", directory)(error.into())),
        };
        Ok(Mounted { ar7, directory, is_served: true, process })
    }

    /// Kills the process. It may have ended before.
    pub(crate) fn kill_process(&self) {
        if let Some(process) = &self.process {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    /// Kills the process, and removes what is left of the mount.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.kill_process();
        self.wait()?;
        self.unmount(&["--lazy"])
    }

    /// Waits for the end of the process.
    fn wait(&self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let ended = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&ENDS_WITHIN));
        match ended {
            Ok(0) => Err(Error::Fault("the process does not end after a kill".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::io("wait for the server of", self.directory)(error.into())),
        }
    }

    pub(crate) fn unmount(&mut self, options: &[&str]) -> Result<()> {
        self.is_served = false;
        let mut arguments = vec!["unmount".as_ref(), self.directory.as_os_str()];
        arguments.extend(options.iter().map(std::ffi::OsStr::new));
        self.ar7.expect(0, arguments).map(drop)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.is_served {
            // An error is being reported.
            let _ = self.unmount(&["--lazy"]);
        }
    }
}
