//! Where the programs work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::workspace::{output, shown};

use crate::campaigns::mounted::Mounted;

/// What the programs share.
pub(super) struct Work<'a> {
    pub(super) ar7: &'a Ar7,
    /// A directory of the host.
    pub(super) folder: &'a Path,
    /// Whether each program does less.
    pub(super) is_sample: bool,
    pub(super) seed: u64,
}

impl Work<'_> {
    /// Creates an archive, and a directory to mount it on.
    pub(super) fn place(&self, name: &str) -> Result<Place<'_>> {
        let archive = self.folder.join(format!("{name}.ar7"));
        let mount = self.folder.join(format!("{name}-mount"));
        fs::create_dir(&mount).map_err(Error::io("create", &mount))?;
        self.ar7.expect(0, ["create".as_ref(), archive.as_os_str()])?;
        Ok(Place { ar7: self.ar7, archive, mount })
    }
}

/// An archive, and the directory that it is mounted on.
pub(super) struct Place<'a> {
    ar7: &'a Ar7,
    archive: PathBuf,
    pub(super) mount: PathBuf,
}

impl Place<'_> {
    pub(super) fn mounted(&self) -> Result<Mounted<'_>> {
        Mounted::new(self.ar7, &self.archive, &self.mount, &[])
    }

    /// Asks the process that serves the mount. A program may take a directory that it cannot open as synced, and say so
    /// after the process was killed: only what it says while the process lives counts.
    pub(super) fn is_served(&self) -> bool {
        xattr::get(&self.mount, "user.ar7.process").is_ok_and(|process| process.is_some())
    }

    pub(super) fn verify(&self) -> Result<()> {
        self.ar7.expect(0, ["verify".as_ref(), self.archive.as_os_str()]).map(drop)
    }

    /// Works with the archive mounted. It must verify afterwards.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let mut mounted = self.mounted()?;
        let done = work(&self.mount)?;
        mounted.unmount(&[])?;
        self.verify()?;
        Ok(done)
    }
}

/// Returns whether a program can be started.
pub(super) fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a program to its end. Returns its standard output; fails unless it succeeds.
pub(super) fn finish(command: &mut Command) -> Result<String> {
    let ended = output(command)?;
    let stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
    if ended.status.success() {
        return Ok(stdout);
    }
    let errors = format!("{stdout}{}", String::from_utf8_lossy(&ended.stderr));
    let status = ended.status.to_string();
    Err(Error::Status { command: shown(command), status, expected: 0, errors })
}
