//! `mv`: renames an entry or moves it into another directory. `--force` replaces the new name, unless both are names of
//! one file: then nothing changes, as with rename(2).

use std::os::unix::ffi::OsStrExt;

use ar7_registry::records::EntryType;

use crate::arguments::{Common, Move};
use crate::exit::Failure;
use crate::names::{join, split_last};
use crate::session::Session;
use crate::walk::find_directory;

/// Moves the entry.
pub(crate) fn run(common: &Common, options: &Move) -> Result<(), Failure> {
    let session = Session::write(common, &options.archive)?;
    let names = session.archive.names();
    let (from_parent, from_name) = split_last(&options.from)?;
    let from = find_directory(&names, &from_parent)?;
    let to_path = options.to.as_bytes();
    // Like mv(1), move the entry into an existing directory.
    let (to_parent, to_name) = match names.resolve(to_path) {
        Ok(entry) if entry.kind == EntryType::Directory => (to_path.to_vec(), from_name),
        _ => split_last(&options.to)?,
    };
    let to = find_directory(&names, &to_parent)?;
    let renamed = names.rename((from, from_name), (to, to_name), options.force);
    renamed.map_err(|error| Failure::Entry { path: join(&from_parent, from_name), error })?;
    session.finish()
}
