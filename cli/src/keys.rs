//! The key of an archive: what the options or the environment name, or a prompt.

use std::io::{self, IsTerminal};

use ar7::{Error, Key, KeySource, PathText};
use zeroize::Zeroizing;

use crate::arguments::{Common, NewSecret};
use crate::exit::Failure;
use crate::output;

/// Returns the key that opens an existing archive.
pub(crate) fn existing(common: &Common) -> Result<Key, Failure> {
    let given = common.key.source().or_else(|| KeySource::from_environment("AR7_"));
    given.map_or_else(|| prompt("Passphrase: ").map(key_of), read)
}

/// Returns the key for a new archive. A typed passphrase must be repeated.
pub(crate) fn new(common: &Common) -> Result<Key, Failure> {
    let given = common.key.source().or_else(|| KeySource::from_environment("AR7_"));
    given.map_or_else(prompt_twice, read)
}

/// Returns a key to add to an existing archive.
pub(crate) fn added(options: &NewSecret) -> Result<Key, Failure> {
    other(options)?.map_or_else(prompt_twice, Ok)
}

/// Returns the key for a second archive, if the options or the environment give one.
pub(crate) fn other(options: &NewSecret) -> Result<Option<Key>, Failure> {
    let given = options.source().or_else(|| KeySource::from_environment("AR7_NEW_"));
    given.map(read).transpose()
}

#[expect(clippy::needless_pass_by_value, reason = "the callers have no other use for it")]
fn read(source: KeySource) -> Result<Key, Failure> {
    let key = source.read()?;
    if let Some(file) = source.exposed_file() {
        output::warn(&format_args!(
            "{}: warning: other users can read this file: run chmod go-rwx on it",
            PathText::new(file)
        ));
    }
    Ok(key)
}

fn prompt_twice() -> Result<Key, Failure> {
    let first = prompt("New passphrase: ")?;
    if first.is_empty() {
        return Err(Error::PassphraseEmpty.into());
    }
    let second = prompt("Repeat new passphrase: ")?;
    if first == second { Ok(key_of(first)) } else { Err(Failure::PassphrasesDiffer) }
}

fn key_of(mut passphrase: Zeroizing<Vec<u8>>) -> Key {
    Key::passphrase(std::mem::take(&mut *passphrase))
}

fn prompt(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Without a terminal, a program in the background would wait forever for an answer.
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Failure::NoKey);
    }
    let typed = rpassword::prompt_password(question).map_err(Failure::Prompt)?;
    Ok(Zeroizing::new(typed.into_bytes()))
}
