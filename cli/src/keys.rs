//! The key of an archive: what the options or the environment name, or a prompt.

use ar7::{Key, KeySource};
use ar7_arguments::{Common, NewSecret};

use crate::exit::Failure;
use crate::output;

/// Returns the key that opens an existing archive.
pub(crate) fn existing(common: &Common) -> Result<Key, Failure> {
    given(common.key.source(), "AR7_")?.map_or_else(|| Ok(Key::prompt()?), Ok)
}

/// Returns the key for a new archive. A typed passphrase must be repeated.
pub(crate) fn new(common: &Common) -> Result<Key, Failure> {
    given(common.key.source(), "AR7_")?.map_or_else(|| Ok(Key::prompt_new()?), Ok)
}

/// Returns a key to add to an existing archive.
pub(crate) fn added(options: &NewSecret) -> Result<Key, Failure> {
    other(options)?.map_or_else(|| Ok(Key::prompt_new()?), Ok)
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
