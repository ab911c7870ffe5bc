//! Compares the registry of streams with other embedded stores, each of which loads, reads and inserts the same
//! records.
//!
//! Every store is configured to be durable: when a load or an insert returns, it is on stable storage. Only ar7
//! encrypts and authenticates the records.

mod ar7;
mod fjall;
mod lmdb;
mod measure;
mod record;
mod redb;
mod sqlite;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fs;
use std::path::Path;

pub use measure::{Measure, Plan, Report, run};
pub use record::{Entry, Record, records, shuffled};

/// The result of a store's operation; each store has its own errors.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The cache size in bytes, for stores that need a limit.
const CACHE_BYTES: u32 = 256 << 20;

/// The maximum size of a file in bytes, for stores that need a limit.
const FILE_BYTES_MAX: usize = 16 << 30;

/// The order in which records are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Ascending.
    Sorted,
    /// Random.
    Random,
}

/// A store, open for writing.
pub trait Store: Sync {
    /// Inserts records into the empty store in one transaction, and makes it durable.
    fn load(&self, records: &mut dyn Iterator<Item = &Record>, order: Order) -> Result<()>;

    /// Inserts one record and makes it durable.
    fn insert(&self, record: &Record) -> Result<()>;

    /// Returns a view of the current content. Each thread has its own.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;
}

/// A view of the store's content at the time of its creation.
pub trait Reader {
    /// Returns whether the store has this record with this value.
    fn has(&self, record: &Record) -> Result<bool>;

    /// Visits every entry, in order.
    fn scan(&self, visit: &mut dyn FnMut(Entry<'_>)) -> Result<()>;
}

/// The stores to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The registry of an archive.
    Ar7,
    /// A copy-on-write B+tree.
    Redb,
    /// A copy-on-write B+tree in a memory map.
    Lmdb,
    /// A B-tree with a write-ahead log, behind SQL.
    Sqlite,
    /// A log-structured merge tree.
    Fjall,
}

impl Kind {
    /// Every store.
    pub const ALL: [Kind; 5] = [Kind::Ar7, Kind::Redb, Kind::Lmdb, Kind::Sqlite, Kind::Fjall];

    /// Returns the name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ar7 => "ar7",
            Kind::Redb => "redb",
            Kind::Lmdb => "lmdb",
            Kind::Sqlite => "sqlite",
            Kind::Fjall => "fjall",
        }
    }

    /// Returns the version of the store, or of its crate if the crate is the store.
    pub fn version(self) -> String {
        match self {
            Kind::Ar7 => env!("CARGO_PKG_VERSION").to_owned(),
            Kind::Redb => locked_version("redb"),
            Kind::Lmdb => lmdb::version(),
            Kind::Sqlite => sqlite::version(),
            Kind::Fjall => locked_version("fjall"),
        }
    }

    /// Creates an empty store in a directory.
    pub fn create(self, folder: &Path) -> Result<Box<dyn Store>> {
        Ok(match self {
            Kind::Ar7 => Box::new(ar7::Registry::create(folder)?),
            Kind::Redb => Box::new(redb::Redb::create(folder)?),
            Kind::Lmdb => Box::new(lmdb::Lmdb::create(folder)?),
            Kind::Sqlite => Box::new(sqlite::Sqlite::create(folder)?),
            Kind::Fjall => Box::new(fjall::Fjall::create(folder)?),
        })
    }
}

/// Returns the total size in bytes of all files below a directory, including preallocated space.
pub fn size_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Returns the version of a crate in the workspace's lock file.
fn locked_version(name: &str) -> String {
    let mut lines = include_str!("../../../Cargo.lock").lines();
    let wanted = format!("name = \"{name}\"");
    let version = lines.find(|line| *line == wanted).and_then(|_| lines.next());
    version.map_or(String::new(), |line| line.replace("version = ", "").replace('"', ""))
}
