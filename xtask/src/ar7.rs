//! The program under test: built in release, run with its key in the environment.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use crate::error::{Error, Result};
use crate::workspace::{cargo, output, shown, target_directory};

/// Exit code for damage and tampering.
pub(crate) const EXIT_DAMAGED: i32 = 4;

/// The built program and the key file it is given.
pub(crate) struct Ar7 {
    program: PathBuf,
    key_file: PathBuf,
}

/// What a command left: what it said, and how it ended.
pub(crate) struct Finished {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: ExitStatus,
}

impl Ar7 {
    /// Builds the program as it is used, and lets it make a key in `folder`.
    pub(crate) fn build(folder: &Path) -> Result<Ar7> {
        Ar7::built(
            folder,
            cargo(&["build", "--release", "--locked", "--package", "ar7"]),
            "release",
        )
    }

    /// The same as the tests have it, which is built already where they ran.
    pub(crate) fn build_as_tested(folder: &Path) -> Result<Ar7> {
        Ar7::built(folder, cargo(&["build", "--locked", "--bin", "ar7"]), "debug")
    }

    fn built(folder: &Path, mut build: Command, profile: &str) -> Result<Ar7> {
        let status =
            build.status().map_err(|source| Error::Start { command: shown(&build), source })?;
        if !status.success() {
            let command = shown(&build);
            return Err(Error::Step { step: "build", command, status: status.to_string() });
        }
        let name = format!("ar7{}", std::env::consts::EXE_SUFFIX);
        let program = target_directory()?.join(profile).join(name);
        let ar7 = Ar7 { program, key_file: folder.join("key") };
        ar7.expect(0, [OsStr::new("keygen"), ar7.key_file.as_os_str()])?;
        Ok(ar7)
    }

    /// Where the program is.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A command of the program, not yet started.
    pub(crate) fn command<I>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("AR7_KEY_FILE", &self.key_file).env_remove("AR7_PASSPHRASE");
        command
    }

    /// Runs a command to its end, which must be the exit code `expected`.
    pub(crate) fn expect<I>(&self, expected: i32, arguments: I) -> Result<Finished>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = self.command(arguments);
        let Output { status, stdout, stderr } = output(&mut command)?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        if status.code() == Some(expected) {
            return Ok(Finished { stdout, stderr, status });
        }
        let errors = format!("{stdout}{stderr}");
        Err(Error::Status {
            command: shown(&command),
            status: status.to_string(),
            expected,
            errors,
        })
    }
}
