//! LMDB: a copy-on-write B+tree in a memory map.

use std::path::Path;

use lmdb::{Cursor, Database, DatabaseFlags, Environment, RoTransaction, Transaction, WriteFlags};

use super::{Entry, FILE_BYTES_MAX, Order, Reader, Record, Result, Store};

/// Default flags, so every commit is synced. The map is large enough for all records, as the documentation advises.
/// Sorted records are appended (`MDB_APPEND`), which leaves full pages.
pub(super) struct Lmdb {
    environment: Environment,
    database: Database,
}

pub(super) fn version() -> String {
    // The version that `lmdb-rkv-sys` 0.11 builds; safe code cannot query it.
    "0.9.24".to_owned()
}

impl Lmdb {
    pub(super) fn create(folder: &Path) -> Result<Lmdb> {
        let environment = Environment::new().set_map_size(FILE_BYTES_MAX).open(folder)?;
        let database = environment.create_db(None, DatabaseFlags::empty())?;
        Ok(Lmdb { environment, database })
    }

    fn write(&self, records: &mut dyn Iterator<Item = &Record>, flags: WriteFlags) -> Result<()> {
        let mut transaction = self.environment.begin_rw_txn()?;
        for record in records {
            transaction.put(self.database, record.key(), &record.value, flags)?;
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Lmdb {
    fn load(&self, records: &mut dyn Iterator<Item = &Record>, order: Order) -> Result<()> {
        let flags = match order {
            Order::Sorted => WriteFlags::APPEND,
            Order::Random => WriteFlags::empty(),
        };
        self.write(records, flags)
    }

    fn insert(&self, record: &Record) -> Result<()> {
        self.write(&mut std::iter::once(record), WriteFlags::empty())
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let transaction = self.environment.begin_ro_txn()?;
        Ok(Box::new(View { transaction, database: self.database }))
    }
}

struct View<'a> {
    transaction: RoTransaction<'a>,
    database: Database,
}

impl Reader for View<'_> {
    fn has(&self, record: &Record) -> Result<bool> {
        match self.transaction.get(self.database, record.key()) {
            Ok(value) => Ok(Entry::Bytes(record.key(), value).is(record)),
            Err(lmdb::Error::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn scan(&self, visit: &mut dyn FnMut(Entry<'_>)) -> Result<()> {
        let mut cursor = self.transaction.open_ro_cursor(self.database)?;
        for entry in cursor.iter_start() {
            let (key, value) = entry?;
            visit(Entry::Bytes(key, value));
        }
        Ok(())
    }
}
