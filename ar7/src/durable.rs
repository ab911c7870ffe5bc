//! New files that are on stable storage when the call returns.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Writes a new file, readable and writable only by its owner. An existing file is never overwritten.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| failed("create", path, error))?;
    write_durably(file, bytes).and_then(|()| sync_directory_of(path)).map_err(|error| {
        // Do not leave a partial file that looks complete.
        let _ = std::fs::remove_file(path);
        failed("write", path, error)
    })
}

/// Returns the error of an operation on a file.
pub(crate) fn failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    Error::Io { operation, path: Some(path.to_owned()), source: Arc::new(error) }
}

/// A file that can be synced.
trait Durable: Write {
    fn sync(&self) -> io::Result<()>;
}

impl Durable for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

fn write_durably(mut file: impl Durable, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync()
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    match absolute.parent().map(File::open) {
        Some(Ok(directory)) => match directory.sync_all() {
            // Some network file systems cannot sync a directory but write it through immediately.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            outcome => outcome,
        },
        // A directory that is writable but not readable cannot be synced.
        Some(Err(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Recorded<'a>(&'a RefCell<Vec<&'static str>>);

    impl Write for Recorded<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().push("write");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Durable for Recorded<'_> {
        fn sync(&self) -> io::Result<()> {
            self.0.borrow_mut().push("sync");
            Err(io::Error::other("sync"))
        }
    }

    #[test]
    fn a_new_file_is_synced_after_it_is_written_and_a_failed_sync_is_reported() {
        let calls = RefCell::default();
        let error = write_durably(Recorded(&calls), b"key").unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), calls.into_inner()),
            ("sync", vec!["write", "sync"])
        );
    }
}
