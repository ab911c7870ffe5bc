//! redb: a copy-on-write B+tree with checksums.

use std::path::Path;

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use super::record::VALUE_SIZE;
use super::{Entry, Order, Reader, Record, Result, Store};

/// Keys and values of fixed length, which are stored without lengths and offsets.
const TABLE: TableDefinition<'_, &[u8; 16], &[u8; VALUE_SIZE]> = TableDefinition::new("streams");

/// Default settings: a cache of 1 GiB, one-phase commits and immediate durability. There is no special way to insert
/// sorted records.
pub(super) struct Redb(Database);

impl Redb {
    pub(super) fn create(folder: &Path) -> Result<Redb> {
        let database = Database::create(folder.join("records.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Redb(database))
    }

    fn write(&self, records: &mut dyn Iterator<Item = &Record>) -> Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut table = transaction.open_table(TABLE)?;
        for record in records {
            table.insert(record.key(), &record.value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }
}

impl Store for Redb {
    fn load(&self, records: &mut dyn Iterator<Item = &Record>, _order: Order) -> Result<()> {
        self.write(records)
    }

    fn insert(&self, record: &Record) -> Result<()> {
        self.write(&mut std::iter::once(record))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self.0.begin_read()?.open_table(TABLE)?))
    }
}

impl Reader for ReadOnlyTable<&'static [u8; 16], &'static [u8; VALUE_SIZE]> {
    fn has(&self, record: &Record) -> Result<bool> {
        let found = ReadableTable::get(self, record.key())?;
        Ok(found.is_some_and(|value| Entry::Bytes(record.key(), value.value()).is(record)))
    }

    fn scan(&self, visit: &mut dyn FnMut(Entry<'_>)) -> Result<()> {
        for entry in ReadableTable::iter(self)? {
            let (key, value) = entry?;
            visit(Entry::Bytes(key.value(), value.value()));
        }
        Ok(())
    }
}
