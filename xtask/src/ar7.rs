//! The program `ar7`: builds it, and runs it with a key in its environment.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use crate::error::{Error, Result};
use crate::workspace::{built_program, cargo, output, shown};

/// The exit code for damage and tampering.
pub const EXIT_DAMAGED: i32 = 4;

/// A built program and its key file.
pub struct Ar7 {
    program: PathBuf,
    key_file: PathBuf,
}

/// The output and the exit status of a command.
pub struct Finished {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// The exit status.
    pub status: ExitStatus,
}

impl Ar7 {
    /// Builds the program in release, and creates a key in `folder` with it.
    pub fn build(folder: &Path) -> Result<Ar7> {
        Ar7::built(
            folder,
            cargo(&["build", "--release", "--locked", "--package", "ar7-cli"]),
            "release",
        )
    }

    /// Builds the program like the tests do, and creates a key in `folder` with it.
    pub fn build_as_tested(folder: &Path) -> Result<Ar7> {
        Ar7::built(folder, cargo(&["build", "--locked", "--bin", "ar7"]), "debug")
    }

    fn built(folder: &Path, mut build: Command, profile: &str) -> Result<Ar7> {
        let status =
            build.status().map_err(|source| Error::Start { command: shown(&build), source })?;
        if !status.success() {
            let command = shown(&build);
            return Err(Error::Step { step: "build", command, status: status.to_string() });
        }
        Ar7::at(&built_program(profile, "ar7")?, folder)
    }

    /// Uses a built program, and creates a key in `folder` with it.
    pub fn at(program: &Path, folder: &Path) -> Result<Ar7> {
        let ar7 = Ar7 { program: program.to_owned(), key_file: folder.join("key") };
        ar7.expect(0, [OsStr::new("keygen"), ar7.key_file.as_os_str()])?;
        Ok(ar7)
    }

    /// Returns the path of the program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns a command of the program, not yet started.
    pub fn command<I>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("AR7_KEY_FILE", &self.key_file).env_remove("AR7_PASSPHRASE");
        command
    }

    /// Runs a command. Fails unless it ends with the exit code `expected`.
    pub fn expect<I>(&self, expected: i32, arguments: I) -> Result<Finished>
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
