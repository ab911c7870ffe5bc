//! `SQLite`: a B-tree with a write-ahead log, behind SQL.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{CACHE_BYTES, Entry, FILE_BYTES_MAX, Order, Reader, Record, Result, Store};

const INSERT: &str = "INSERT INTO streams (identity, record) VALUES (?1, ?2)";
const SELECT: &str = "SELECT record FROM streams WHERE identity = ?1";
const SCAN: &str = "SELECT identity, record FROM streams ORDER BY identity";

/// A write-ahead log that is synced with every commit (`synchronous=FULL`), a table without row ids, prepared
/// statements, a map for reading, and a cache. Each reader has a separate connection.
pub(super) struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
}

pub(super) fn version() -> String {
    rusqlite::version().to_owned()
}

impl Sqlite {
    pub(super) fn create(folder: &Path) -> Result<Sqlite> {
        let path = folder.join("records.sqlite");
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        set_memory(&connection)?;
        connection.execute_batch(
            "CREATE TABLE streams (identity BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",
        )?;
        Ok(Sqlite { path, writer: Mutex::new(connection) })
    }
}

fn set_memory(connection: &Connection) -> Result<()> {
    // Negative numbers are KiB, positive numbers are pages.
    connection.pragma_update(None, "cache_size", -i64::from(CACHE_BYTES >> 10))?;
    connection.pragma_update(None, "mmap_size", i64::try_from(FILE_BYTES_MAX)?)?;
    Ok(())
}

impl Store for Sqlite {
    fn load(&self, records: &mut dyn Iterator<Item = &Record>, _order: Order) -> Result<()> {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare_cached(INSERT)?;
        for record in records {
            insert.execute((record.key(), &record.value))?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    fn insert(&self, record: &Record) -> Result<()> {
        let connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached(INSERT)?.execute((record.key(), &record.value))?;
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        set_memory(&connection)?;
        // One read transaction, so that statements do not check for a newer state.
        connection.execute_batch("BEGIN")?;
        Ok(Box::new(connection))
    }
}

impl Reader for Connection {
    fn has(&self, record: &Record) -> Result<bool> {
        let mut select = self.prepare_cached(SELECT)?;
        let found = select.query_row([record.key()], |row| {
            let value = row.get_ref(0)?.as_blob()?;
            Ok(Entry::Bytes(record.key(), value).is(record))
        });
        Ok(found.optional()?.unwrap_or(false))
    }

    fn scan(&self, visit: &mut dyn FnMut(Entry<'_>)) -> Result<()> {
        let mut select = self.prepare_cached(SCAN)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            visit(Entry::Bytes(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?));
        }
        Ok(())
    }
}
