//! fjall: a log-structured merge tree.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::{CACHE_BYTES, Entry, Order, Reader, Record, Result, Store};

/// The journal is synced with every commit (`PersistMode::SyncAll`). Sorted records are ingested, which writes tables
/// directly and is durable without a commit. Other records are one batch, which is one commit. The keyspace is
/// configured to expect that looked-up keys exist.
pub(super) struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Fjall {
    pub(super) fn create(folder: &Path) -> Result<Fjall> {
        let database = Database::builder(folder).cache_size(CACHE_BYTES.into()).open()?;
        let options = || KeyspaceCreateOptions::default().expect_point_read_hits(true);
        let keyspace = database.keyspace("streams", options)?;
        Ok(Fjall { database, keyspace })
    }

    fn write(&self, records: &mut dyn Iterator<Item = &Record>) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for record in records {
            batch.insert(&self.keyspace, record.key(), record.value);
        }
        Ok(batch.commit()?)
    }
}

impl Store for Fjall {
    fn load(&self, records: &mut dyn Iterator<Item = &Record>, order: Order) -> Result<()> {
        if order == Order::Random {
            return self.write(records);
        }
        let mut ingestion = self.keyspace.start_ingestion()?;
        for record in records {
            ingestion.write(record.key(), record.value)?;
        }
        ingestion.finish()?;
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn insert(&self, record: &Record) -> Result<()> {
        self.write(&mut std::iter::once(record))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(View { snapshot: self.database.snapshot(), keyspace: &self.keyspace }))
    }
}

struct View<'a> {
    snapshot: Snapshot,
    keyspace: &'a Keyspace,
}

impl Reader for View<'_> {
    fn has(&self, record: &Record) -> Result<bool> {
        let found = self.snapshot.get(self.keyspace, record.key())?;
        Ok(found.is_some_and(|value| Entry::Bytes(record.key(), &value).is(record)))
    }

    fn scan(&self, visit: &mut dyn FnMut(Entry<'_>)) -> Result<()> {
        for entry in self.snapshot.iter(self.keyspace) {
            let (key, value) = entry.into_inner()?;
            visit(Entry::Bytes(&key, &value));
        }
        Ok(())
    }
}
