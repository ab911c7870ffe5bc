//! Keys and passphrases.

use std::fmt;

use ar7_engine::crypto::{Passphrase, RawKey, Secret};

use crate::error::Result;

/// What opens an archive: a raw key of 32 bytes, or a passphrase.
///
/// The bytes are in memory that is locked, kept out of core dumps, and wiped when the key is
/// dropped.
#[derive(Clone)]
pub struct Key(pub(crate) Secret);

impl Key {
    /// Generates a raw key with the system's random source.
    pub fn generate() -> Result<Key> {
        Ok(Key(Secret::Key(RawKey::generate()?)))
    }

    /// Returns the key for a passphrase. Opening an archive with it takes a fraction of a second,
    /// because the key is derived by [`crate::Derivation`].
    pub fn passphrase(passphrase: impl Into<Vec<u8>>) -> Key {
        Key(Secret::Passphrase(Passphrase::new(passphrase.into())))
    }

    /// Returns the bytes of a raw key, to be stored in a safe place. A passphrase has none.
    pub fn as_bytes(&self) -> Option<&[u8; 32]> {
        match &self.0 {
            Secret::Key(key) => Some(key.as_bytes()),
            Secret::Passphrase(_) => None,
        }
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Key {
        Key(Secret::Key(RawKey::from_bytes(bytes)))
    }
}

impl fmt::Debug for Key {
    /// Shows the type of the key only.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
