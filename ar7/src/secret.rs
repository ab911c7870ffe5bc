//! Where the key of an archive comes from: files, commands and the environment, but never a command line.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use zeroize::Zeroizing;

use crate::command::CommandOutput;
use crate::durable::failed;
use crate::error::{Error, Result};
use crate::key::Key;

/// The most bytes that are read for a passphrase.
const PASSPHRASE_MAX: usize = 64 << 10;

/// Where a key or passphrase comes from.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("phrase");
/// # std::fs::write(&path, "correct horse battery staple\n")?;
/// use ar7::KeySource;
///
/// let source = KeySource::from_environment("BACKUP_").unwrap_or(KeySource::PassphraseFile(path));
/// let key = source.read()?;
/// if let Some(file) = source.exposed_file() {
///     eprintln!("{}: other users can read this file", file.display());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// A file with a raw key of 32 bytes.
    KeyFile(PathBuf),
    /// A file with the passphrase in its first line, up to 65,536 bytes.
    PassphraseFile(PathBuf),
    /// A command for `sh` that prints the passphrase in its first line, up to 65,536 bytes.
    PassphraseCommand(OsString),
    /// An environment variable with the passphrase.
    Variable(OsString),
}

impl KeySource {
    /// Returns the source that the environment names: the first of the variables `KEY_FILE`, `PASSPHRASE_FILE`,
    /// `PASSPHRASE_COMMAND` and `PASSPHRASE`, each with this prefix, that is set and not empty.
    pub fn from_environment(prefix: &str) -> Option<KeySource> {
        KeySource::from_variables(prefix, |name| env::var_os(name))
    }

    fn from_variables(
        prefix: &str,
        value: impl Fn(&OsStr) -> Option<OsString>,
    ) -> Option<KeySource> {
        let name = |suffix| OsString::from(format!("{prefix}{suffix}"));
        let set = |suffix| value(&name(suffix)).filter(|value| !value.is_empty());
        if let Some(path) = set("KEY_FILE") {
            return Some(KeySource::KeyFile(path.into()));
        }
        if let Some(path) = set("PASSPHRASE_FILE") {
            return Some(KeySource::PassphraseFile(path.into()));
        }
        let command = set("PASSPHRASE_COMMAND").map(KeySource::PassphraseCommand);
        command.or_else(|| set("PASSPHRASE").map(|_| KeySource::Variable(name("PASSPHRASE"))))
    }

    /// Reads the key. Fails with [`Error::PassphraseEmpty`] for an empty passphrase, and with [`Error::Command`] if the
    /// command fails.
    pub fn read(&self) -> Result<Key> {
        if let KeySource::KeyFile(path) = self {
            return Key::read_file(path);
        }
        let mut passphrase = self.passphrase()?;
        if passphrase.is_empty() {
            return Err(Error::PassphraseEmpty);
        }
        Ok(Key::passphrase(std::mem::take(&mut *passphrase)))
    }

    fn passphrase(&self) -> Result<Zeroizing<Vec<u8>>> {
        match self {
            KeySource::KeyFile(path) | KeySource::PassphraseFile(path) => {
                let file = File::open(path).map_err(|error| failed("open", path, error))?;
                first_line(file).map_err(|error| failed("read", path, error))
            }
            KeySource::PassphraseCommand(command) => {
                let mut shell = Command::new("sh");
                let output = CommandOutput::start(shell.arg("-c").arg(command))?.named(command);
                first_line(output).map_err(|error| {
                    let reason = Error::from(error).reason();
                    Error::Command { command: command.clone(), reason }
                })
            }
            KeySource::Variable(name) => {
                Ok(Zeroizing::new(env::var_os(name).unwrap_or_default().into_vec()))
            }
        }
    }

    /// Returns the file with the secret if users other than its owner can read it. A pipe or a device, such as
    /// `/dev/stdin`, has no content to protect.
    pub fn exposed_file(&self) -> Option<&Path> {
        let (KeySource::KeyFile(path) | KeySource::PassphraseFile(path)) = self else {
            return None;
        };
        let found = fs::metadata(path).ok()?;
        let is_exposed = found.is_file() && found.permissions().mode() & 0o044 != 0;
        is_exposed.then_some(path)
    }
}

/// Reads a passphrase to the end of the first line, without its line break.
fn first_line(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // With its whole capacity, the buffer is never copied to a larger one.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX + 2));
    source.take(PASSPHRASE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > PASSPHRASE_MAX {
        return Err(io::Error::other(format!("longer than {PASSPHRASE_MAX} bytes")));
    }
    if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        bytes.truncate(end);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_a_file() {
        let longest = vec![b'a'; PASSPHRASE_MAX];
        for (content, expected) in [
            (&b"horse"[..], &b"horse"[..]),
            (b"horse\n", b"horse"),
            (b"horse \r\nbattery\n", b"horse \r"),
            (&longest, &longest),
        ] {
            let (_folder, path) = file(content);
            assert_eq!(*KeySource::PassphraseFile(path).passphrase().unwrap(), expected);
        }
        for content in [&b""[..], b"\nhorse\n"] {
            let (_folder, path) = file(content);
            let refused = KeySource::PassphraseFile(path).read();
            assert!(matches!(refused, Err(Error::PassphraseEmpty)), "{refused:?}");
        }
        let (_folder, path) = file(&[&longest[..], b"a"].concat());
        let refused = KeySource::PassphraseFile(path.clone()).read().unwrap_err();
        let expected = format!("{}: read: longer than 65536 bytes", path.display());
        assert_eq!(refused.to_string(), expected);
    }

    #[test]
    fn a_passphrase_is_the_first_line_that_a_command_prints_unless_it_fails() {
        let command = |text: &str| KeySource::PassphraseCommand(text.into());
        assert_eq!(*command("echo horse; echo battery").passphrase().unwrap(), b"horse");
        for (script, expected) in [
            ("echo horse; exit 4", "echo horse; exit 4: exit status: 4"),
            ("exit 0", "the passphrase is empty"),
            ("yes", "yes: longer than 65536 bytes"),
        ] {
            assert_eq!(command(script).read().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_first_variable_that_is_not_empty_names_the_source() {
        let source = |set: &[(&str, &str)]| {
            KeySource::from_variables("X_", |name| {
                let (_, value) = set.iter().find(|(set, _)| name == format!("X_{set}").as_str())?;
                Some(OsString::from(value))
            })
        };
        let all = ["KEY_FILE", "PASSPHRASE_FILE", "PASSPHRASE_COMMAND", "PASSPHRASE"]
            .map(|name| (name, "a"));
        for (skipped, expected) in [
            Some(KeySource::KeyFile("a".into())),
            Some(KeySource::PassphraseFile("a".into())),
            Some(KeySource::PassphraseCommand("a".into())),
            Some(KeySource::Variable("X_PASSPHRASE".into())),
            None,
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(source(&all[skipped..]), expected);
            let empty = (0..)
                .zip(all)
                .map(|(at, (name, value))| (name, if at < skipped { "" } else { value }));
            assert_eq!(source(&empty.collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn a_file_is_exposed_if_its_group_or_others_can_read_it() {
        let (_folder, path) = file(b"horse");
        let source = KeySource::PassphraseFile(path.clone());
        for (mode, is_exposed) in [(0o600, false), (0o640, true), (0o604, true), (0o611, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(source.exposed_file().is_some(), is_exposed, "{mode:o}");
        }
        assert_eq!(KeySource::KeyFile("/dev/null".into()).exposed_file(), None);
    }
}
