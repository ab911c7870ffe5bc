//! Passphrases that the user types in a terminal.

use std::io::{self, IsTerminal as _};

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::key::Key;

impl Key {
    /// Asks for the passphrase of an existing archive. Fails with [`Error::NoTerminal`] if neither standard input nor
    /// standard error is a terminal, because a program in the background would wait forever for an answer.
    pub fn prompt() -> Result<Key> {
        Ok(key_of(ask("Passphrase: ")?))
    }

    /// Asks for a new passphrase, twice. Fails with [`Error::PassphrasesDiffer`] and [`Error::PassphraseEmpty`], and as
    /// [`Key::prompt`] does.
    pub fn prompt_new() -> Result<Key> {
        let first = ask("New passphrase: ")?;
        if first.is_empty() {
            return Err(Error::PassphraseEmpty);
        }
        if first != ask("Repeat new passphrase: ")? {
            return Err(Error::PassphrasesDiffer);
        }
        Ok(key_of(first))
    }
}

fn key_of(mut passphrase: Zeroizing<Vec<u8>>) -> Key {
    Key::passphrase(std::mem::take(&mut *passphrase))
}

fn ask(question: &str) -> Result<Zeroizing<Vec<u8>>> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Error::NoTerminal);
    }
    let typed = rpassword::prompt_password(question)
        .map_err(|error| Error::Input { name: "passphrase", source: error.into() })?;
    Ok(Zeroizing::new(typed.into_bytes()))
}
