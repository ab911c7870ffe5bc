//! Receipts.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use uuid::Uuid;

use crate::durable::failed;
use crate::error::{Error, Result};
use crate::records::Timestamp;

/// The identity of a durable commit, as a line of text. Nothing in a file can show that the whole
/// file is an older copy; a receipt that is kept elsewhere can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt(pub(crate) ar7_registry::Receipt);

impl Receipt {
    /// The beginning of the line in every version. The number of the version follows.
    pub const BEGINNING: &str = ar7_registry::Receipt::BEGINNING;

    /// Reads a receipt from a file that holds its line, with or without a line break. It reads no more than
    /// the longest receipt needs, because the file may be an archive or endless.
    pub fn read(file: impl Read) -> Result<Receipt> {
        let mut bytes = Vec::new();
        file.take(2 * ar7_registry::Receipt::LENGTH_MAX as u64).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        line.strip_suffix('\r').unwrap_or(line).parse()
    }

    /// Reads the receipt in a file. Fails with [`Error::InFile`] if the file is not a receipt.
    pub fn read_file(path: impl AsRef<Path>) -> Result<Receipt> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| failed("open", path, error))?;
        Receipt::read(file).map_err(|error| match error {
            Error::Io { source, .. } => {
                Error::Io { operation: "read", path: Some(path.to_owned()), source }
            }
            error => Error::InFile { path: path.to_owned(), cause: error.into() },
        })
    }

    /// Returns the identity of the archive.
    pub fn archive(&self) -> Uuid {
        self.0.archive()
    }

    /// Returns the time at which the receipt was made, in whole seconds.
    pub fn given_at(&self) -> Timestamp {
        self.0.given_at().into()
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(line: &str) -> Result<Receipt> {
        Ok(Receipt(line.parse()?))
    }
}
