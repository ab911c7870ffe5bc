//! The registry of streams beside other embedded stores: the same records, loaded, read and inserted by each.
//!
//! Every store is durable as it is set here: when a load or an insert returns, it is on stable storage. None but ar7
//! encrypts or authenticates what it stores.

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

/// What a store says when it fails; each has errors of its own.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Memory that a store may use for its cache, where it has to be told, in bytes.
const CACHE_BYTES: u32 = 256 << 20;

/// Storage that a file may take at most, where a store has to be told, in bytes.
const FILE_BYTES_MAX: usize = 16 << 30;

/// In which order records are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Ascending.
    Sorted,
    /// Any order.
    Random,
}

/// A store, open for writing.
pub trait Store: Sync {
    /// Inserts records into the empty store in one transaction, and makes it durable.
    fn load(&self, records: &mut dyn Iterator<Item = &Record>, order: Order) -> Result<()>;

    /// Inserts one record and makes it durable.
    fn insert(&self, record: &Record) -> Result<()>;

    /// A view of what is stored now. Each thread has its own.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;
}

/// Reads what was stored when it was made.
pub trait Reader {
    /// Whether the store has this record, with this value.
    fn has(&self, record: &Record) -> Result<bool>;

    /// Shows every entry, in order.
    fn scan(&self, visit: &mut dyn FnMut(Entry<'_>)) -> Result<()>;
}

/// The stores that are compared.
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

    /// Name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ar7 => "ar7",
            Kind::Redb => "redb",
            Kind::Lmdb => "lmdb",
            Kind::Sqlite => "sqlite",
            Kind::Fjall => "fjall",
        }
    }

    /// Version of the store; of its crate, where the store is one.
    pub fn version(self) -> String {
        match self {
            Kind::Ar7 => env!("CARGO_PKG_VERSION").to_owned(),
            Kind::Redb => locked_version("redb"),
            Kind::Lmdb => lmdb::version(),
            Kind::Sqlite => sqlite::version(),
            Kind::Fjall => locked_version("fjall"),
        }
    }

    /// Makes an empty store in a folder.
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

/// Length of all files below a folder in bytes, storage that a store has reserved ahead included.
pub fn size_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// The version of a crate that the workspace is built with.
fn locked_version(name: &str) -> String {
    let mut lines = include_str!("../../../Cargo.lock").lines();
    let wanted = format!("name = \"{name}\"");
    let version = lines.find(|line| *line == wanted).and_then(|_| lines.next());
    version.map_or(String::new(), |line| line.replace("version = ", "").replace('"', ""))
}
