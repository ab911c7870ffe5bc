//! Keys and passphrases.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ar7_engine::crypto::{Passphrase, RawKey, Secret};
use zeroize::Zeroizing;

use crate::durable::{failed, write_new};
use crate::error::{Error, Result};

/// Length of a raw key in bytes.
const KEY_BYTES: usize = 32;

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

    /// Reads a raw key from a key file: 32 bytes. Fails with [`Error::NotAKeyFile`] for a file of any other
    /// length.
    pub fn read_file(path: impl AsRef<Path>) -> Result<Key> {
        let path = path.as_ref();
        // Read one byte more than a key has, to detect a longer file without reading all of it.
        let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
        let mut found_bytes = 0;
        let mut file = File::open(path).map_err(|error| failed("open", path, error))?;
        while found_bytes < bytes.len() {
            match file.read(&mut bytes[found_bytes..]) {
                Ok(0) => break,
                Ok(length) => found_bytes += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", path, error)),
            }
        }
        match bytes.first_chunk() {
            Some(key) if found_bytes == KEY_BYTES => Ok(Key::from(*Zeroizing::new(*key))),
            _ => {
                let at_least = found_bytes > KEY_BYTES;
                Err(Error::NotAKeyFile { path: path.to_owned(), at_least, found_bytes })
            }
        }
    }

    /// Generates a raw key and writes it to a new file, readable only by its owner. The file is on stable
    /// storage when this returns: if a power cut destroyed the key, its archives would be lost. An
    /// existing file is never overwritten.
    pub fn create_file(path: impl AsRef<Path>) -> Result<Key> {
        let key = RawKey::generate()?;
        write_new(path.as_ref(), key.as_bytes())?;
        Ok(Key(Secret::Key(key)))
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
