//! Python with the packages that the reader needs, in a virtual environment below the build directory.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::error::{Error, Result};
use xtask::workspace::{output, root, shown, target_directory};

/// The timeout in seconds for downloading missing packages, which is retried once.
const PATIENCE_SECONDS: &str = "20";

/// An interpreter with the packages that the reader needs.
pub(super) struct Python {
    program: PathBuf,
}

impl Python {
    /// Creates the environment, unless it exists with the same requirements. Returns the reason if it cannot be
    /// created.
    pub(super) fn set_up() -> Result<std::result::Result<Python, String>> {
        let environment = target_directory()?.join("interop");
        let requirements = root().join("docs/reader/requirements.txt");
        let wanted = fs::read_to_string(&requirements).map_err(Error::io("read", &requirements))?;
        let installed = environment.join("installed.txt");
        let program = environment.join("bin/python");
        let python = Python { program: program.clone() };
        if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) && program.exists() {
            return Ok(Ok(python));
        }
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&environment);
        if let Some(reason) = failure(make) {
            return Ok(Err(reason));
        }
        let mut install = Command::new(&program);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        install.args(["--retries", "1", "--timeout", PATIENCE_SECONDS, "--requirement"]);
        install.arg(&requirements);
        if let Some(reason) = failure(install) {
            return Ok(Err(reason));
        }
        fs::write(&installed, wanted).map_err(Error::io("write", &installed))?;
        Ok(Ok(python))
    }

    /// Returns a command that runs the reader.
    pub(super) fn reader<I>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = self.script(&root().join("docs/reader/reader.py"));
        command.args(arguments);
        command
    }

    /// Compares the reader with the vectors, and returns its output.
    pub(super) fn vectors(&self) -> Result<String> {
        let said = super::succeed(self.script(&root().join("docs/vectors/check.py")))?;
        Ok(String::from_utf8_lossy(&said).trim_end().to_owned())
    }

    /// Returns a command that runs a script and writes nothing into the tree.
    fn script(&self, path: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-B").arg(path);
        command
    }
}

/// Returns the reason why a command failed: its last line of output.
fn failure(mut command: Command) -> Option<String> {
    let line = shown(&command);
    match output(&mut command) {
        Err(error) => Some(error.to_string()),
        Ok(ended) if ended.status.success() => None,
        Ok(ended) => {
            let said = [ended.stdout, ended.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Some(format!("`{line}` ended with {}: {last}", ended.status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_with_its_last_line() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo last >&2; exit 3"]);
        let reason = failure(command).unwrap();
        assert!(reason.ends_with("last") && reason.contains('3'), "{reason}");
        let missing = failure(Command::new("no-such-program-at-all")).unwrap();
        assert!(missing.contains("no-such-program-at-all"), "{missing}");
        assert_eq!(failure(Command::new("true")), None);
    }
}
