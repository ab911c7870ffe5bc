//! A committed state, readable from any thread.

use std::iter;
use std::sync::Arc;

use ar7_engine::format::{BlockIndex, DoubledRef, Position, StoredStream, StreamLayout};
use ar7_engine::store::{Commit, Store};
use arc_swap::ArcSwap;
use uuid::Uuid;

use super::pages::{KeptPages, PageCache, load_page};
use crate::error::Result;
use crate::packs::FrameCache;
use crate::records::{
    ExtentKey, Extents, FREE_BLOCKS_COUNTER, PACK_OWNER, ReadRecords, Record, Streams,
    decoded_entry, reserved_index,
};
use crate::tree::{Page, PageExpectation, PageStore, TreeReader};

/// The state that all snapshots of an archive share.
pub(crate) struct Committed {
    pub(crate) store: Arc<Store>,
    pub(crate) cache: Arc<PageCache>,
    kept: ArcSwap<Kept>,
}

/// Branches of one commit. They pin no blocks: a snapshot does, by its reference to the commit.
#[derive(Default)]
struct Kept {
    commit: u64,
    pages: KeptPages,
}

impl Committed {
    pub(crate) fn new(store: Arc<Store>) -> Committed {
        let kept = ArcSwap::from_pointee(Kept::default());
        Committed { store, cache: Arc::new(PageCache::new()), kept }
    }

    /// Returns the newest committed state. Allocates only if there was a commit since the last
    /// snapshot.
    pub(crate) fn snapshot(self: &Arc<Self>) -> Snapshot {
        let commit = self.store.current();
        let mut kept = self.kept.load_full();
        if kept.commit != commit.slot.number {
            kept = Arc::new(Kept { commit: commit.slot.number, pages: KeptPages::default() });
            self.kept.store(Arc::clone(&kept));
        }
        Snapshot { committed: Arc::clone(self), commit, kept }
    }
}

/// One committed state of an archive: its names, records and bytes. While it exists, everything in
/// it stays readable: no block that it refers to is reused or overwritten.
///
/// A clone is cheap, and any thread can read through it.
#[derive(Clone)]
pub struct Snapshot {
    committed: Arc<Committed>,
    commit: Arc<Commit>,
    kept: Arc<Kept>,
}

impl Snapshot {
    /// Returns the commit.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    pub(crate) fn store(&self) -> &Store {
        &self.committed.store
    }

    /// Notes a damaged copy of the header or of the commit's meta slot, of which there are others.
    pub(crate) fn note_damaged_copy(&self, copy: Position) {
        self.committed.cache.note_damaged(copy);
    }

    /// Returns the streams with identities above `after` in ascending order, except the reserved
    /// ones and packs. After an error, the streams of the next readable page follow.
    pub fn streams(&self, after: Option<Uuid>) -> impl Iterator<Item = Result<StoredStream>> + '_ {
        let mut from = Some(after.map_or(vec![0; 16], |after| after.into_bytes().to_vec()));
        let mut entries = None;
        let decoded = move || {
            if entries.is_none() {
                match self.reader::<Streams>().range(from.as_ref()?) {
                    Ok(range) => entries = Some(range),
                    Err(error) => {
                        from = self.reader::<Streams>().past_damage(from.as_ref()?);
                        return Some(Err(error));
                    }
                }
            }
            let next = entries.as_mut()?.read_next(|key, value| {
                from = Some([key, &[0]].concat());
                Streams::decode_value(key, value)
            });
            match next {
                None => from = None,
                Some(Err(_)) => from = self.reader::<Streams>().past_damage(from.as_ref()?),
                Some(Ok(_)) => return next.map(Result::flatten),
            }
            entries = None;
            next.map(Result::flatten)
        };
        let is_before = move |stored: &StoredStream| Some(stored.record.identity) == after;
        let is_pack = |stored: &StoredStream| stored.inode == Some(PACK_OWNER);
        iter::from_fn(decoded)
            .skip_while(move |found| found.as_ref().is_ok_and(is_before))
            .filter(move |found| !found.as_ref().is_ok_and(is_pack))
    }

    /// Returns the least key at which a tree can be read again after an error at `from`: behind the
    /// record, or behind the page that does not open.
    pub(crate) fn past_damaged_record<R: Record>(&self, from: &R::Key) -> Option<Vec<u8>> {
        R::with_key(from, |from| match self.reader::<R>().ceiling(from) {
            Ok(found) => found.map(|(key, _)| [&key[..], &[0]].concat()),
            Err(_) => self.reader::<R>().past_damage(from),
        })
    }

    /// Returns the record of a stream, reserved or not, or `None` if there is no such stream.
    pub fn stored(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        match reserved_index(identity) {
            Some(index) => Ok(Some(self.commit.slot.reserved_streams[index].clone())),
            None => self.get::<Streams>(&identity),
        }
    }

    /// Returns whether the record of a stream and all of its extents can be read.
    pub fn is_located(&self, identity: Uuid) -> bool {
        let Ok(Some(stored)) = self.stored(identity) else { return false };
        if let StreamLayout::OneRun(_) = stored.layout {
            return true;
        }
        let mut next = 0;
        while next < stored.record.count {
            let key = ExtentKey { stream: identity, first: BlockIndex(next) };
            match self.get::<Extents>(&key) {
                // Decoding an extent has checked its end.
                Ok(Some(extent)) => next += extent.run.count(),
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// Returns the number of free blocks.
    pub(crate) fn free_blocks(&self) -> u64 {
        let slot = &self.commit.slot;
        let inline: u64 = slot.inline_free.iter().map(|run| u64::from(run.count())).sum();
        slot.counters[FREE_BLOCKS_COUNTER].saturating_add(inline)
    }

    /// Returns the decoded frames of packed content.
    pub(crate) fn frames(&self) -> &FrameCache {
        self.committed.cache.frames()
    }

    fn reader<R: Record>(&self) -> TreeReader<'_, Snapshot> {
        TreeReader::new(R::TREE.number(), self.commit.slot.roots[R::TREE.index()], self)
    }
}

impl PageStore for Snapshot {
    fn load(&self, at: DoubledRef, expect: PageExpectation) -> Result<Arc<Page>> {
        let page = load_page(self.store(), &self.committed.cache, at, expect)?;
        if page.is_branch() {
            self.kept.pages.keep(at, &page);
        }
        Ok(page)
    }

    fn kept(&self, at: DoubledRef, expect: PageExpectation) -> Option<&Arc<Page>> {
        (expect.level > 0).then(|| self.kept.pages.get(at, expect)).flatten()
    }
}

impl ReadRecords for Snapshot {
    fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R::Value>> {
        R::with_key(key, |key| {
            self.reader::<R>().read(key, |value| R::decode_value(key, value))?.transpose()
        })
    }

    fn floor<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        R::with_key(key, |key| decoded_entry::<R>(self.reader::<R>().floor(key)?))
    }

    fn ceiling<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        R::with_key(key, |key| decoded_entry::<R>(self.reader::<R>().ceiling(key)?))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slot = &self.commit.slot;
        formatter
            .debug_struct("Snapshot")
            .field("commit", &slot.number)
            .field("generation", &slot.generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Snapshot {
    pub(crate) fn shares_branches_with(&self, other: &Snapshot) -> bool {
        Arc::ptr_eq(&self.kept, &other.kept)
    }
}
