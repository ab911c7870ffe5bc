//! The registry of an archive in a file.

use std::path::Path;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_registry::{Archive, CreateOptions, Snapshot};

use super::{Entry, Order, Reader, Record, Result, Store};

/// An archive with default settings: read through a map, encrypted, two syncs per commit.
///
/// Records take the same path as those of real streams when a transaction is committed, except that no stream has
/// written blocks. There are no settings: the registry has one way to insert.
pub(super) struct Registry(Archive);

impl Registry {
    pub(super) fn create(folder: &Path) -> Result<Registry> {
        let secret = Secret::Key(RawKey::generate()?);
        let path = folder.join("archive.ar7");
        Ok(Registry(Archive::create(&path, &secret, &CreateOptions::default())?))
    }
}

impl Store for Registry {
    fn load(&self, records: &mut dyn Iterator<Item = &Record>, _order: Order) -> Result<()> {
        let registry = self.0.registry();
        for record in records {
            registry.put_stored(&record.stored)?;
        }
        Ok(self.0.commit()?)
    }

    fn insert(&self, record: &Record) -> Result<()> {
        self.0.registry().put_stored(&record.stored)?;
        Ok(self.0.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self.0.snapshot()))
    }
}

impl Reader for Snapshot {
    fn has(&self, record: &Record) -> Result<bool> {
        let found = self.stored(record.identity())?;
        Ok(found.is_some_and(|stored| Entry::Stored(&stored).is(record)))
    }

    fn scan(&self, visit: &mut dyn FnMut(Entry<'_>)) -> Result<()> {
        for stored in self.streams(None) {
            visit(Entry::Stored(&stored?));
        }
        Ok(())
    }
}
