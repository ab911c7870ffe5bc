//! `keygen`: a key file of 32 random bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ar7_engine::crypto::RawKey;

use crate::arguments::Keygen;
use crate::exit::Failure;
use crate::session::at;

/// Makes the file, for its owner's eyes only. It is on disk before the command ends: an archive sealed with a
/// key that a power cut took away would be lost.
pub(crate) fn run(options: &Keygen) -> Result<(), Failure> {
    let path = &options.file;
    let key = RawKey::generate().map_err(|error| at(path)(error.into()))?;
    write_new(path, key.as_bytes())
}

/// Writes a new file that only its owner may read. It is on disk when this returns.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::file(path, "create", error))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| sync_directory_of(path)).map_err(|error| {
        // Half a file must not be taken for a whole one.
        let _ = std::fs::remove_file(path);
        Failure::file(path, "write", error)
    })
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    match absolute.parent().map(File::open) {
        Some(Ok(directory)) => match directory.sync_all() {
            // Some network file systems know no sync of a directory, and write it at once.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            outcome => outcome,
        },
        // A directory that may be written to but not read cannot be synced.
        Some(Err(_)) | None => Ok(()),
    }
}
