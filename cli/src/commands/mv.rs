//! `mv`: renames an entry or moves it into another directory. `--force` replaces the new name, unless both are names of
//! one file: then nothing changes, as with rename(2).

use std::path::Path;

use ar7::Error;

use super::paths::{in_entry, not_root};
use crate::arguments::{Common, Move};
use crate::exit::Failure;
use crate::opened::Opened;

/// Moves the entry.
pub(crate) fn run(common: &Common, options: &Move) -> Result<(), Failure> {
    let (from, to) = (not_root(&options.from)?, Path::new(&options.to));
    Opened::write(common, &options.archive)?.change(|transaction| {
        // Like mv(1), move the entry into an existing directory.
        let to = match transaction.metadata(to) {
            Ok(found) if found.is_directory() => to.join(from.file_name().unwrap_or_default()),
            _ => not_root(&options.to)?.to_owned(),
        };
        if !options.force && transaction.exists(&to).map_err(in_entry(&to))? {
            transaction.metadata(from).map_err(in_entry(from))?;
            return Err(in_entry(&to)(Error::AlreadyExists { path: to.clone() }));
        }
        transaction.rename(from, &to).map_err(in_entry(from))
    })
}
