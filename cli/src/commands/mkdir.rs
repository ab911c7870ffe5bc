//! `mkdir`: creates directories in the archive.

use std::os::unix::ffi::OsStrExt;

use ar7_registry::records::Attributes;

use super::put::attributes_now;
use crate::arguments::{Common, MakeDirectory};
use crate::exit::Failure;
use crate::names::split_last;
use crate::session::Session;
use crate::walk::find_directory;

/// The permissions of a new directory.
const MODE: u32 = 0o755;

/// Creates all of the directories or none of them.
pub(crate) fn run(common: &Common, options: &MakeDirectory) -> Result<(), Failure> {
    let session = Session::write(common, &options.archive)?;
    for path in &options.paths {
        let names = session.archive.names();
        if options.parents {
            let made = names.make_directories(path.as_bytes(), directory_attributes());
            made.map_err(|error| Failure::unresolved(path.as_bytes(), error))?;
        } else {
            let (parent, name) = split_last(path)?;
            let directory = find_directory(&names, &parent)?;
            let made = names.make_directory(directory, name, directory_attributes());
            made.map_err(|error| Failure::Entry { path: path.as_bytes().to_vec(), error })?;
        }
    }
    session.finish()
}

/// Returns the attributes of a directory that has no source.
pub(super) fn directory_attributes() -> Attributes {
    Attributes { mode: MODE, ..attributes_now() }
}
