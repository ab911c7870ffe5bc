//! Receipts.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::records::Timestamp;

/// The identity of a durable commit, as a line of text. Nothing in a file can show that the whole
/// file is an older copy; a receipt that is kept elsewhere can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt(pub(crate) ar7_registry::Receipt);

impl Receipt {
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
