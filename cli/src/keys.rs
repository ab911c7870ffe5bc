//! The key of an archive: what the options or the environment name, or a prompt.

use std::io::{self, IsTerminal};

use ar7::{Error, Key, KeySource};
use zeroize::Zeroizing;

use crate::arguments::{Common, NewSecret};
use crate::exit::Failure;
use crate::output;

/// Returns the key that opens an existing archive.
pub(crate) fn existing(common: &Common) -> Result<Key, Failure> {
    given(common.key.source(), "AR7_")?.map_or_else(|| prompt("Passphrase: ").map(key_of), Ok)
}

/// Returns the key for a new archive. A typed passphrase must be repeated.
pub(crate) fn new(common: &Common) -> Result<Key, Failure> {
    given(common.key.source(), "AR7_")?.map_or_else(prompt_twice, Ok)
}

/// Returns a key to add to an existing archive.
pub(crate) fn added(options: &NewSecret) -> Result<Key, Failure> {
    other(options)?.map_or_else(prompt_twice, Ok)
}

/// Returns the key for a second archive, if the options or the environment give one.
pub(crate) fn other(options: &NewSecret) -> Result<Option<Key>, Failure> {
    given(options.source(), "AR7_NEW_")
}

/// Reads the key from a source, or from the one that the environment names.
fn given(source: Option<KeySource>, prefix: &str) -> Result<Option<Key>, Failure> {
    let Some(source) = source.or_else(|| KeySource::from_environment(prefix)) else {
        return Ok(None);
    };
    let key = source.read()?;
    if let Some(file) = source.exposed_file() {
        output::warn_of(file, &"other users can read this file: run chmod go-rwx on it");
    }
    Ok(Some(key))
}

fn prompt_twice() -> Result<Key, Failure> {
    let first = prompt("New passphrase: ")?;
    if first.is_empty() {
        return Err(Error::PassphraseEmpty.into());
    }
    let second = prompt("Repeat new passphrase: ")?;
    if first != second {
        return Err(Failure::usage("the two passphrases differ"));
    }
    Ok(key_of(first))
}

fn key_of(mut passphrase: Zeroizing<Vec<u8>>) -> Key {
    Key::passphrase(std::mem::take(&mut *passphrase))
}

fn prompt(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Without a terminal, a program in the background would wait forever for an answer.
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Failure::usage(
            "no key: use --key-file, --passphrase-file or --passphrase-command, AR7_KEY_FILE or AR7_PASSPHRASE, or run in \
             a terminal",
        ));
    }
    let typed = rpassword::prompt_password(question);
    let typed = typed.map_err(|source| Failure::System { what: "passphrase", source })?;
    Ok(Zeroizing::new(typed.into_bytes()))
}
