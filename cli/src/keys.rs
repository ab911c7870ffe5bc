//! Keys from files, commands, the environment or the terminal, and never from the command line.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ar7::Key;
use zeroize::Zeroizing;

use crate::arguments::{Common, KeySource, NewSecret};
use crate::exit::Failure;
use crate::shown::Shown;
use crate::stderr;

/// The longest passphrase in bytes.
const PASSPHRASE_MAX: usize = 64 << 10;

/// A key before it is passed to the library.
enum Given {
    Raw(Key),
    Passphrase(Zeroizing<Vec<u8>>),
}

impl Given {
    fn key(self) -> Key {
        match self {
            Given::Raw(key) => key,
            Given::Passphrase(mut bytes) => Key::passphrase(std::mem::take(&mut *bytes)),
        }
    }
}

/// Returns the key that opens an existing archive.
pub(crate) fn existing(common: &Common) -> Result<Key, Failure> {
    let given = given(&common.key, "AR7_")?;
    given.map_or_else(|| prompt("Passphrase: ").map(Given::Passphrase), Ok).map(Given::key)
}

/// Returns the key for a new archive. A typed passphrase must be repeated.
pub(crate) fn new(common: &Common) -> Result<Key, Failure> {
    given(&common.key, "AR7_")?.map_or_else(prompt_twice, Ok).map(Given::key)
}

impl NewSecret {
    fn source(&self) -> KeySource {
        KeySource {
            key_file: self.new_key_file.clone(),
            passphrase_file: self.new_passphrase_file.clone(),
            passphrase_command: self.new_passphrase_command.clone(),
        }
    }
}

/// Returns a key to add to an existing archive.
pub(crate) fn added(options: &NewSecret) -> Result<Key, Failure> {
    given(&options.source(), "AR7_NEW_")?.map_or_else(prompt_twice, Ok).map(Given::key)
}

/// Returns the key for a second archive, if the options give one.
pub(crate) fn other(options: &NewSecret) -> Result<Option<Key>, Failure> {
    Ok(given(&options.source(), "AR7_NEW_")?.map(Given::key))
}

/// Returns the key from the options or, if none is given, from the variables with this prefix. An empty value counts
/// as unset.
fn given(options: &KeySource, prefix: &str) -> Result<Option<Given>, Failure> {
    let KeySource { key_file, passphrase_file, passphrase_command } = options;
    if let Some(given) =
        from(key_file.clone(), passphrase_file.clone(), passphrase_command.clone())?
    {
        return Ok(Some(given));
    }
    let variable = |name: &str| std::env::var_os(format!("{prefix}{name}"));
    let file = |name| variable(name).map(PathBuf::from);
    let command = variable("PASSPHRASE_COMMAND");
    if let Some(given) = from(file("KEY_FILE"), file("PASSPHRASE_FILE"), command)? {
        return Ok(Some(given));
    }
    let passphrase = variable("PASSPHRASE").filter(|text| !text.is_empty());
    Ok(passphrase.map(|text| Given::Passphrase(text.into_vec().into())))
}

fn from(
    key_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    passphrase_command: Option<OsString>,
) -> Result<Option<Given>, Failure> {
    let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
    if let Some(path) = key_file.filter(is_set) {
        let key = Key::read_file(&path);
        let key = key.map_err(|error| Failure::Library { archive: path.clone(), error })?;
        warn_if_others_can_read(&path);
        return Ok(Some(Given::Raw(key)));
    }
    if let Some(path) = passphrase_file.filter(is_set) {
        let passphrase = File::open(&path)
            .map_err(|error| Failure::file(&path, "open", error))
            .and_then(|file| first_line(file, |error| Failure::file(&path, "read", error)))?;
        warn_if_others_can_read(&path);
        return Ok(Some(Given::Passphrase(passphrase)));
    }
    let command = passphrase_command.filter(|command| !command.is_empty());
    command.map(|command| output_of(&command).map(Given::Passphrase)).transpose()
}

/// Returns the first line of a command's output.
fn output_of(command: &OsStr) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |reason: String| Failure::Command { command: command.to_owned(), reason };
    let started = Command::new("sh").arg("-c").arg(command).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| failed(error.to_string()))?;
    let Some(output) = child.stdout.take() else { return Err(failed("no output".to_owned())) };
    let line = first_line(output, |error| failed(error.to_string()));
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    match line {
        // A command that writes more than is read fails because of that.
        Err(failure @ Failure::Command { .. }) => Err(failure),
        _ if !status.success() => Err(failed(status.to_string())),
        line => line,
    }
}

/// Reads a passphrase to the end of the first line, without its line break.
fn first_line(
    source: impl Read,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // With its whole capacity, the buffer is never copied to a larger one.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX + 2));
    source.take(PASSPHRASE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(&failed)?;
    if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        bytes.truncate(end);
    }
    match bytes.len() {
        0 => Err(Failure::PassphraseEmpty),
        1..=PASSPHRASE_MAX => Ok(bytes),
        _ => Err(failed(io::Error::other(format!("longer than {PASSPHRASE_MAX} bytes")))),
    }
}

fn warn_if_others_can_read(path: &Path) {
    let Ok(found) = fs::metadata(path) else { return };
    // A pipe or a device, such as /dev/stdin, has no content to protect.
    if found.is_file() && found.permissions().mode() & 0o044 != 0 {
        let path = Shown::path(path);
        stderr::failure(&format_args!(
            "{path}: warning: other users can read this file: run chmod go-rwx on it"
        ));
    }
}

fn prompt_twice() -> Result<Given, Failure> {
    let first = prompt("New passphrase: ")?;
    if first.is_empty() {
        return Err(Failure::PassphraseEmpty);
    }
    let second = prompt("Repeat new passphrase: ")?;
    if first == second { Ok(Given::Passphrase(first)) } else { Err(Failure::PassphrasesDiffer) }
}

fn prompt(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Without a terminal, a program in the background would wait forever for an answer.
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Failure::NoKey);
    }
    let typed = rpassword::prompt_password(question).map_err(Failure::Prompt)?;
    Ok(Zeroizing::new(typed.into_bytes()))
}
