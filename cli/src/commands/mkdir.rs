//! `mkdir`: creates directories in the archive.

use std::path::{Path, PathBuf};

use ar7::{Attributes, Timestamp, Transaction};

use super::paths::{in_entry, not_root};
use crate::arguments::{Common, MakeDirectory};
use crate::exit::Failure;
use crate::opened::Opened;

/// The permissions of a new directory.
const MODE: u32 = 0o755;

/// Creates all of the directories or none of them.
pub(crate) fn run(common: &Common, options: &MakeDirectory) -> Result<(), Failure> {
    Opened::write(common, &options.archive)?.change(|transaction| {
        for path in &options.paths {
            if !options.parents {
                let path = not_root(path)?;
                create(transaction, path).map_err(in_entry(path))?;
                continue;
            }
            let path = Path::new(path);
            let failed = in_entry(path);
            let above: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
            for directory in above.iter().rev() {
                if transaction.exists(directory).map_err(&failed)? {
                    // Fails if it is not a directory.
                    transaction.list(directory).map_err(&failed)?;
                } else {
                    create(transaction, directory).map_err(&failed)?;
                }
            }
        }
        Ok(())
    })
}

/// Creates a directory that belongs to the user.
fn create(transaction: &Transaction<'_>, path: &Path) -> ar7::Result<()> {
    transaction.create_directory(path)?;
    let attributes = Attributes::default()
        .with_mode(MODE)
        .with_owner(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        .with_modified(Timestamp::now());
    transaction.set_attributes(path, attributes)
}
