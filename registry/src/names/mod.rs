//! Names over streams: directories, files, symbolic and hard links, devices, fifos and sockets.
//!
//! An archive with only bare streams has no names and no inodes: the first name creates the root
//! directory.

mod change;
mod committed;
mod content;
mod extended;
mod lookup;
mod open;
mod packed;
#[cfg(test)]
mod tests;

pub use lookup::Entry;
pub(crate) use lookup::TARGET_MAX;
pub use packed::Packed;
pub(crate) use packed::pack_file;

use crate::archive::Archive;
use crate::committed::Snapshot;
use crate::error::Result;
use crate::records::{ReadRecords, Record};

/// The counter of the meta slot that holds the last assigned inode number.
pub(crate) const INODE_COUNTER: usize = 0;

/// The names of an archive: in a writer the state of the open transaction, in a reader the
/// committed state when [`Archive::names`] was called.
pub struct Names<'a> {
    pub(super) archive: &'a Archive,
    snapshot: Option<Snapshot>,
}

impl Archive {
    /// Returns the archive's names.
    pub fn names(&self) -> Names<'_> {
        let snapshot = (!self.is_writer()).then(|| self.snapshot());
        Names { archive: self, snapshot }
    }
}

impl ReadRecords for Names<'_> {
    fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R::Value>> {
        match &self.snapshot {
            Some(snapshot) => snapshot.get::<R>(key),
            None => self.archive.state()?.writing()?.trees.get::<R>(key),
        }
    }

    fn floor<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        match &self.snapshot {
            Some(snapshot) => snapshot.floor::<R>(key),
            None => self.archive.state()?.writing()?.trees.floor::<R>(key),
        }
    }

    fn ceiling<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        match &self.snapshot {
            Some(snapshot) => snapshot.ceiling::<R>(key),
            None => self.archive.state()?.writing()?.trees.ceiling::<R>(key),
        }
    }
}
