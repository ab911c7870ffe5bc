//! A committed state, to be read by any thread.

use std::iter;
use std::sync::Arc;

use ar7_engine::format::{BlockRef, StoredStream};
use ar7_engine::store::{Commit, Store};
use uuid::Uuid;

use super::Inner;
use super::pages::{KeptPages, load_page};
use super::registry::FREE_LIST_COUNTER;
use crate::error::Result;
use crate::records::{ReadRecords, Record, Streams, read_through, reserved_index};
use crate::tree::{Page, PageExpectation, PageStore, TreeReader};

/// One committed state of an archive. While it is held, nothing that it names is reused; a data block that a
/// later commit overwrote in place is gone, though, and reading it says so.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) inner: Arc<Inner>,
    pub(crate) commit: Arc<Commit>,
    kept: Arc<KeptPages>,
}

impl Snapshot {
    pub(super) fn new(inner: &Arc<Inner>) -> Snapshot {
        let (inner, commit) = (Arc::clone(inner), inner.store.current());
        Snapshot { inner, commit, kept: Arc::default() }
    }

    /// The commit that this is.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The streams with identities above `after`, in order; the reserved ones are left out.
    pub fn streams(
        &self,
        after: Option<Uuid>,
    ) -> Result<impl Iterator<Item = Result<StoredStream>> + '_> {
        let from = after.map_or([0; 16], Uuid::into_bytes);
        let mut entries = self.reader::<Streams>().range(&from)?;
        let decoded = move || entries.read_next(Streams::decode_value).map(Result::flatten);
        let is_before = move |stored: &StoredStream| Some(stored.record.identity) == after;
        Ok(iter::from_fn(decoded).skip_while(move |found| found.as_ref().is_ok_and(is_before)))
    }

    /// The record of a stream, reserved or registered; none if there is no such stream.
    pub fn stored(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        match reserved_index(identity) {
            Some(index) => Ok(Some(self.commit.slot.reserved_streams[index].clone())),
            None => self.get::<Streams>(&identity),
        }
    }

    /// Number of free blocks.
    pub(crate) fn free_blocks(&self) -> u64 {
        let slot = &self.commit.slot;
        let loose: u64 = slot.loose.iter().map(|run| u64::from(run.count())).sum();
        slot.counters[FREE_LIST_COUNTER].saturating_add(loose)
    }

    fn reader<R: Record>(&self) -> TreeReader<'_, Snapshot> {
        TreeReader::new(R::TREE.number(), self.commit.slot.roots[R::TREE.index()], self)
    }
}

impl PageStore for Snapshot {
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>> {
        let page = load_page(&self.inner.store, &self.inner.cache, at, expect)?;
        if page.is_branch() {
            self.kept.keep(at, &page);
        }
        Ok(page)
    }

    fn kept(&self, at: BlockRef, expect: PageExpectation) -> Option<&Arc<Page>> {
        (expect.level > 0).then(|| self.kept.get(at, expect)).flatten()
    }
}

impl ReadRecords for Snapshot {
    fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R::Value>> {
        R::with_key(key, |key| {
            self.reader::<R>().read(key, |value| R::decode_value(key, value))?.transpose()
        })
    }

    fn floor<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        R::with_key(key, |key| read_through::<R>(self.reader::<R>().floor(key)?))
    }

    fn ceiling<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        R::with_key(key, |key| read_through::<R>(self.reader::<R>().ceiling(key)?))
    }
}
