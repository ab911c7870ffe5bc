//! Keys from a key file, the environment or the terminal, and never from the command line.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ar7_engine::crypto::{Passphrase, RawKey, Secret};
use zeroize::Zeroizing;

use crate::arguments::{Common, NewSecret};
use crate::exit::Failure;

const KEY_BYTES: usize = 32;

/// The environment variable with the passphrase.
const PASSPHRASE_VARIABLE: &str = "AR7_PASSPHRASE";

/// The environment variable with a new passphrase.
const NEW_PASSPHRASE_VARIABLE: &str = "AR7_NEW_PASSPHRASE";

/// Returns the secret that opens an existing archive.
pub(crate) fn existing(common: &Common) -> Result<Secret, Failure> {
    match given(common)? {
        Some(secret) => Ok(secret),
        None => prompt("Passphrase: ").map(secret_of),
    }
}

/// Returns the secret for a new archive. A typed passphrase must be repeated.
pub(crate) fn new(common: &Common) -> Result<Secret, Failure> {
    if let Some(secret) = given(common)? {
        return Ok(secret);
    }
    prompt_twice()
}

/// Returns a secret to add to an existing archive.
pub(crate) fn added(options: &NewSecret) -> Result<Secret, Failure> {
    match from(options.new_key_file.as_ref(), NEW_PASSPHRASE_VARIABLE)? {
        Some(secret) => Ok(secret),
        None => prompt_twice(),
    }
}

fn prompt_twice() -> Result<Secret, Failure> {
    let first = prompt("New passphrase: ")?;
    if first.is_empty() {
        return Err(Failure::PassphraseEmpty);
    }
    let second = prompt("Repeat new passphrase: ")?;
    if first == second { Ok(secret_of(first)) } else { Err(Failure::PassphrasesDiffer) }
}

/// Returns the secret from the key file, or else from the environment.
fn given(common: &Common) -> Result<Option<Secret>, Failure> {
    from(common.key_file.as_ref(), PASSPHRASE_VARIABLE)
}

fn from(key_file: Option<&PathBuf>, variable: &str) -> Result<Option<Secret>, Failure> {
    if let Some(path) = key_file.filter(|path| !path.as_os_str().is_empty()) {
        return read_key_file(path).map(|key| Some(Secret::Key(key)));
    }
    let passphrase = std::env::var_os(variable).filter(|text| !text.is_empty());
    Ok(passphrase.map(|text| Secret::Passphrase(Passphrase::new(text.into_vec()))))
}

fn read_key_file(path: &Path) -> Result<RawKey, Failure> {
    // Read one byte more than a key has, to detect a longer file without reading all of it.
    let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
    let mut found_bytes = 0;
    let mut file = File::open(path).map_err(|error| Failure::file(path, "open", error))?;
    while let Some(free) = bytes.get_mut(found_bytes..).filter(|free| !free.is_empty()) {
        match file.read(free) {
            Ok(0) => break,
            Ok(length) => found_bytes += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::file(path, "read", error)),
        }
    }
    match bytes.first_chunk() {
        Some(key) if found_bytes == KEY_BYTES => Ok(RawKey::from_bytes(*Zeroizing::new(*key))),
        _ => {
            let at_least = found_bytes > KEY_BYTES;
            Err(Failure::KeyLength { path: path.to_owned(), at_least, found_bytes })
        }
    }
}

fn prompt(question: &str) -> Result<Zeroizing<String>, Failure> {
    // Without a terminal, a program in the background would wait forever for an answer.
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Failure::NoKey);
    }
    rpassword::prompt_password(question).map(Zeroizing::new).map_err(Failure::Prompt)
}

fn secret_of(mut passphrase: Zeroizing<String>) -> Secret {
    Secret::Passphrase(Passphrase::new(std::mem::take(&mut *passphrase).into_bytes()))
}
