//! The content that is left of streams, and reading it.

use std::ops::Range;

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{
    ArchiveKind, DATA_SIZE, DATA_SIZE_U64, Generation, MetaSlot, StoredStream,
};
use ar7_engine::store::Wreck;
use uuid::Uuid;

use super::index::{Fragment, Index};
use super::rebuilt::{Found, Pages, Rebuilt};
use super::report::Outcome;
use super::versions::Version;
use crate::error::Result;
use crate::records::{Streams, TreeId, reserved_index};

/// Blocks that are read at a time: 1 MiB.
const READ_BLOCKS: u32 = 256;

/// Everything that is left of an archive.
pub(super) struct Source<'a> {
    pub(super) wreck: &'a Wreck,
    pub(super) pages: &'a Pages<'a>,
    pub(super) index: &'a Index,
    /// The newest meta slot, and whether no newer one can have been lost.
    pub(super) slot: Option<(&'a MetaSlot, bool)>,
    pub(super) streams: Rebuilt,
    pub(super) extents: Rebuilt,
    pub(super) names: Rebuilt,
    pub(super) inodes: Rebuilt,
    pub(super) frames: Rebuilt,
}

/// A part of a stream, in order.
pub(super) enum Part<'p> {
    /// Bytes that are left.
    Bytes(&'p [u8]),
    /// A number of bytes that are lost.
    Gap(u64),
}

impl Source<'_> {
    /// Returns the trees of which pages are lost. An archive without names has no pages of them.
    pub(super) fn damaged_trees(&self) -> Vec<TreeId> {
        let trees = [
            (TreeId::Streams, &self.streams),
            (TreeId::Extents, &self.extents),
            (TreeId::Names, &self.names),
            (TreeId::Inodes, &self.inodes),
        ];
        // Without a meta slot, a tree without pages may be an empty one.
        let is_damaged = |tree: &Rebuilt| !tree.is_whole && tree.newest.is_some();
        trees.into_iter().filter(|(_, tree)| is_damaged(tree)).map(|(id, _)| id).collect()
    }

    pub(super) fn kind(&self) -> ArchiveKind {
        self.wreck.kind()
    }

    /// Returns the record of a stream.
    pub(super) fn stored(&self, stream: Uuid) -> Option<Found<StoredStream>> {
        match (reserved_index(stream), self.slot) {
            (Some(index), Some((slot, _))) => {
                let value = slot.reserved_streams[index].clone();
                Some(Found { value, is_newest: true })
            }
            (Some(_), None) => None,
            (None, _) => self.streams.get::<Streams>(self.pages, &stream),
        }
    }

    /// Returns the versions of a stream: the one that its record names, if there is one; otherwise, or if some of it is
    /// lost, those that its blocks show. `length` is that of the inode.
    pub(super) fn versions(&self, stream: Uuid, length: Option<u64>) -> Vec<Version> {
        let stored = self.stored(stream);
        let recorded =
            stored.as_ref().and_then(|stored| Version::recorded(stored, &self.extents, self.pages));
        if let Some(version) = &recorded
            && version.is_proven
            && self.is_complete(version)
        {
            return vec![version.clone()];
        }
        let length = stored.map(|stored| stored.value.record.length).or(length);
        // Blocks newer than a commit that is certainly the newest are of a transaction that did not commit.
        let newest =
            self.slot.filter(|(_, is_certain)| *is_certain).map(|(slot, _)| slot.generation);
        let is_committed =
            |fragment: &&Fragment| newest.is_none_or(|newest| fragment.generation <= newest);
        let fragments = self.index.fragments_of(stream).iter().filter(is_committed);
        let fragments: Vec<Fragment> = fragments.copied().collect();
        let mut others = Version::unrecorded(&fragments, recorded.as_ref());
        for version in &mut others {
            version.set_length(length);
        }
        recorded.into_iter().chain(others).collect()
    }

    /// Returns whether a version can be left out: the newest commit has no such stream.
    pub(super) fn was_deleted(&self, generation: Generation) -> bool {
        let is_certain = self.slot.is_some_and(|(_, is_certain)| is_certain);
        let is_covered = self.streams.newest.is_some_and(|newest| generation <= newest);
        self.streams.is_whole && (is_certain || is_covered)
    }

    fn is_complete(&self, version: &Version) -> bool {
        let mut end = 0;
        for segment in &version.segments {
            if segment.first.get() != end || !self.index.covers(version.stream, *segment) {
                return false;
            }
            end = segment.end();
        }
        u64::from(end) * DATA_SIZE_U64 >= version.length
    }

    /// Passes the content of a version to `write`, in order. Returns the gaps.
    pub(super) fn read(
        &self,
        version: &Version,
        write: &mut dyn FnMut(Part<'_>) -> Result<()>,
    ) -> Result<Vec<Range<u64>>> {
        let mut reader = Reader { length: version.length, at: 0, gaps: Vec::new(), write };
        let mut bytes = Vec::with_capacity(READ_BLOCKS as usize * DATA_SIZE);
        for segment in &version.segments {
            reader.gap_until(u64::from(segment.first.get()) * DATA_SIZE_U64)?;
            let mut rest = Some(segment.run);
            let mut index = segment.first.get();
            while let Some(run) = rest.filter(|_| reader.at < reader.length) {
                let (part, after) = run.split(READ_BLOCKS);
                let part = part.expect("a run is not empty");
                for block in self.wreck.read_run(KeyKind::Data, part, segment.generation) {
                    let is_expected = |block: &ar7_engine::format::Block| {
                        block.head.stream == version.stream && block.head.index.get() == index
                    };
                    if let Some(block) = block.filter(is_expected) {
                        bytes.extend_from_slice(&block.data[..]);
                    } else {
                        reader.bytes(&bytes)?;
                        bytes.clear();
                        reader.gap_until((u64::from(index) + 1) * DATA_SIZE_U64)?;
                    }
                    index += 1;
                }
                reader.bytes(&bytes)?;
                bytes.clear();
                rest = after;
            }
        }
        reader.gap_until(reader.length)?;
        Ok(reader.gaps)
    }

    /// Returns the content of a short version, or `None` if any of it is lost or it is longer than `most`.
    pub(super) fn read_whole(
        &self,
        stream: Uuid,
        length: Option<u64>,
        most: usize,
    ) -> Option<Vec<u8>> {
        let version = self.versions(stream, length).into_iter().next()?;
        if version.length > u64::try_from(most).ok()? || !version.is_proven {
            return None;
        }
        let mut content = Vec::new();
        let gaps = self.read(&version, &mut |part| {
            if let Part::Bytes(bytes) = part {
                content.extend_from_slice(bytes);
            }
            Ok(())
        });
        gaps.is_ok_and(|gaps| gaps.is_empty()).then_some(content)
    }
}

/// Returns the outcome for a version with these gaps.
pub(super) fn outcome(version: &Version, gaps: &[Range<u64>]) -> Outcome {
    match (version.is_proven, gaps) {
        (false, _) => Outcome::Unproven,
        (true, []) => Outcome::Complete,
        (true, _) => Outcome::Gaps,
    }
}

struct Reader<'w> {
    length: u64,
    at: u64,
    gaps: Vec<Range<u64>>,
    write: &'w mut dyn FnMut(Part<'_>) -> Result<()>,
}

impl Reader<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(left)];
        if bytes.is_empty() {
            return Ok(());
        }
        self.at += bytes.len() as u64;
        (self.write)(Part::Bytes(bytes))
    }

    fn gap_until(&mut self, end: u64) -> Result<()> {
        let end = end.min(self.length);
        if end <= self.at {
            return Ok(());
        }
        match self.gaps.last_mut() {
            Some(last) if last.end == self.at => last.end = end,
            _ => self.gaps.push(self.at..end),
        }
        let gap = end - self.at;
        self.at = end;
        (self.write)(Part::Gap(gap))
    }
}
