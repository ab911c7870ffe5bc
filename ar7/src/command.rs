//! The output of commands.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::error::{Error, Result};

/// The output of a running command, which ends with an error if the command fails: so content that is not complete is
/// not stored. If it is dropped before its end, the command is killed.
///
/// ```
/// # fn main() -> ar7::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
/// use ar7::CommandOutput;
/// use std::process::Command;
///
/// let transaction = archive.begin()?;
/// transaction.write("greeting", CommandOutput::start(Command::new("echo").arg("hello"))?)?;
/// let failed = transaction.write("greeting", CommandOutput::start(&mut Command::new("false"))?);
/// assert!(matches!(failed, Err(ar7::Error::Command { .. })));
/// assert_eq!(transaction.read("greeting")?, b"hello\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CommandOutput {
    program: OsString,
    child: Child,
    output: ChildStdout,
}

impl CommandOutput {
    /// Starts the command. Fails with [`Error::Command`] if that is not possible.
    pub fn start(command: &mut Command) -> Result<CommandOutput> {
        let program = command.get_program().to_owned();
        let failed = |reason: &dyn ToString| Error::Command {
            command: program.clone(),
            reason: reason.to_string(),
        };
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
        let output = child.stdout.take().ok_or_else(|| failed(&"no output"))?;
        Ok(CommandOutput { program, child, output })
    }

    /// Sets what errors call the command, instead of the name of its program.
    #[must_use]
    pub fn named(mut self, name: impl Into<OsString>) -> CommandOutput {
        self.program = name.into();
        self
    }
}

impl Read for CommandOutput {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.output.read(bytes)?;
        if length == 0 && !bytes.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                let (command, reason) = (self.program.clone(), status.to_string());
                return Err(Error::Command { command, reason }.into());
            }
        }
        Ok(length)
    }
}

impl AsFd for CommandOutput {
    /// Returns the pipe from the command, to wait for output.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

impl Drop for CommandOutput {
    fn drop(&mut self) {
        // Both do nothing after the command has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Vec<u8>> {
        let mut output = CommandOutput::start(Command::new("sh").args(["-c", script]))?;
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes)?;
        // The end stays the end.
        assert_eq!(output.read(&mut [0; 9])?, 0);
        Ok(bytes)
    }

    #[test]
    fn a_command_that_fails_or_does_not_start_is_an_error_at_the_end_of_its_output() {
        assert_eq!(shell("echo a; echo b").unwrap(), b"a\nb\n");
        for (script, reason) in [("echo a; exit 3", "exit status: 3"), ("kill -9 $$", "signal: 9")]
        {
            let failed = shell(script).unwrap_err();
            assert!(failed.to_string().starts_with(&format!("sh: {reason}")), "{failed}");
        }
        let missing = CommandOutput::start(&mut Command::new("/no/such/program")).unwrap_err();
        assert!(missing.to_string().starts_with("/no/such/program: "), "{missing}");
    }

    #[test]
    fn a_command_ends_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = format!("sleep 100; touch {}", mark.display());
        let begun = std::time::Instant::now();
        drop(CommandOutput::start(Command::new("sh").args(["-c", &script])).unwrap());
        assert!(begun.elapsed().as_secs() < 50 && !mark.exists());
    }
}
