//! Damage that a command reports while it goes on.

use std::path::{Path, PathBuf};

use ar7::{ErrorClass, Shortfall, Snapshot};

use crate::exit::Failure;
use crate::output;

/// Counts damage that is reported while the rest goes on, because the rest may still be readable.
#[derive(Debug, Default)]
pub(crate) struct Damages(u64);

impl Damages {
    /// Returns a value, or reports that it is damaged.
    pub(crate) fn readable<T>(&mut self, found: ar7::Result<T>) -> Result<Option<T>, Failure> {
        match found {
            Err(error) if error.class() == ErrorClass::Damaged => {
                output::warn(&error);
                self.0 += 1;
                Ok(None)
            }
            found => Ok(Some(found?)),
        }
    }

    /// Returns the paths that match a pattern. Reports directories of which names are damaged.
    pub(crate) fn matching(
        &mut self,
        snapshot: &Snapshot,
        pattern: &Path,
    ) -> Result<Vec<PathBuf>, Failure> {
        let mut damaged = Vec::new();
        let paths = snapshot.matching_readable(pattern, |error| damaged.push(Err(error)))?;
        for error in damaged {
            self.readable::<()>(error)?;
        }
        Ok(paths)
    }

    /// Fails if there was damage.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        Failure::check(Shortfall::of_findings(self.0))
    }
}
