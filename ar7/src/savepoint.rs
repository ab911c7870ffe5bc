//! Points of a transaction to which it can return.

use std::fmt;

use crate::error::Result;
use crate::open::Open;
use crate::transaction::Transaction;

/// A point of a transaction to which it can return, from [`Transaction::savepoint`].
///
/// It borrows the transaction, so that it cannot outlive it or be used with another one.
pub struct Savepoint<'t> {
    open: &'t Open,
    point: ar7_registry::Savepoint,
    /// Its place in the order of openings and deletions.
    number: u64,
}

impl Transaction<'_> {
    /// Makes a savepoint. [`Savepoint::roll_back`] undoes what follows it, and nothing before it.
    ///
    /// A transaction can have any number of savepoints. Each costs what was changed since the one
    /// before it, and keeps the blocks of its state from being reused until it is dropped. On a full
    /// disk it fails with [`crate::Error::NoSpace`], and the transaction stays as it was.
    ///
    /// ```
    /// # fn main() -> ar7::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
    /// let transaction = archive.begin()?;
    /// for (name, text) in [("one", "1"), ("two", "no number"), ("three", "3")] {
    ///     let point = transaction.savepoint()?;
    ///     transaction.write(name, text.as_bytes())?;
    ///     if text.parse::<u32>().is_err() {
    ///         point.roll_back()?; // as if this file had never been written
    ///     }
    /// }
    /// transaction.commit()?;
    /// assert_eq!(archive.snapshot()?.list("")?.count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn savepoint(&self) -> Result<Savepoint<'_>> {
        let (point, number) = self.open.savepoint()?;
        Ok(Savepoint { open: &self.open, point, number })
    }
}

impl Savepoint<'_> {
    /// Returns the transaction to this point: names, contents, attributes and metadata are as they were
    /// when it was made. The point stays, and the transaction can return to it again. Savepoints that
    /// were made after it are gone, and fail with [`crate::Error::NoSavepoint`].
    ///
    /// A [`crate::File`] that was open at this point stays open, and shows the content that it had then;
    /// its own offset does not move. A file that was opened later fails with
    /// [`crate::Error::RolledBack`].
    ///
    /// After an error of the medium or damage, a transaction can only be discarded. Returning to a point
    /// from before the error makes it usable again, unless the archive itself is unusable.
    pub fn roll_back(&self) -> Result<()> {
        Ok(self.open.roll_back_to(&self.point, self.number)?)
    }
}

impl fmt::Debug for Savepoint<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Savepoint")
            .field("archive", &self.open.archive)
            .finish_non_exhaustive()
    }
}
