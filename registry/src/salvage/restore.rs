//! Writes what is left to the new archive: reserved streams, directories with what is in them (`directories`), and other
//! streams. Whatever has no name goes to the directory `lost+found`.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ar7_engine::format::{ArchiveKind, RESERVED_STREAMS, StoredStream, Timestamp};
use roaring::RoaringTreemap;
use uuid::Uuid;

use super::content::{Part, Source, outcome};
use super::holes::Holes;
use super::packs::Packs;
use super::report::{Outcome, SalvageObserver, SalvageProgress, SalvageSummary, Salvaged, stopped};
use super::versions::Version;
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::records::{
    Attributes, InodeNumber, Inodes, NameKey, NameRecords, PACK_OWNER, Streams, reserved_identity,
    reserved_index,
};
use crate::stream::{Mode, Stream};

/// Bytes after which a commit is made, so that little memory is needed.
pub(super) const COMMITTED_BYTES: u64 = 256 << 20;

/// What an entry without content counts for.
const ENTRY_BYTES: u64 = 4096;

/// The directory for what has no name.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Permissions of directories and files whose attributes are lost.
pub(super) const DIRECTORY_MODE: u32 = 0o700;
pub(super) const FILE_MODE: u32 = 0o600;

/// A salvage in progress.
pub(super) struct Restoring<'s> {
    pub(super) source: &'s Source<'s>,
    pub(super) archive: &'s Archive,
    pub(super) observer: &'s mut dyn SalvageObserver,
    summary: SalvageSummary,
    /// Inodes that were written.
    pub(super) done: RoaringTreemap,
    /// Their numbers in the new archive and what became of them, if they may have another name.
    pub(super) numbers: HashMap<u64, (InodeNumber, Content)>,
    /// Streams that were written for an inode, and which have no record or another inode in the newest commit.
    pub(super) written_streams: HashSet<Uuid>,
    /// Streams of lost inodes.
    pub(super) owned: Option<HashMap<u64, Vec<Uuid>>>,
    pub(super) packs: Packs,
    pub(super) holes: Holes,
    /// Inodes that have several contents in packs.
    pub(super) ambiguous: RoaringTreemap,
    lost_and_found: Option<Place>,
    /// Bytes of zeros that may still be written: an honest archive has lost no more than its file has bytes.
    pub(super) zeros_left: u64,
    pub(super) since_commit: u64,
    pub(super) written: u64,
}

/// Where a stream of the new archive begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// At the first byte of the old one.
    Zero,
    /// At the first byte that is left. The name states which one it is.
    FirstByteLeft,
}

/// A directory of the new archive.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) directory: InodeNumber,
    pub(super) path: Vec<u8>,
}

/// Content that was written.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) stream: Option<Uuid>,
    pub(super) length: u64,
    pub(super) outcome: Outcome,
    pub(super) gaps: Vec<Range<u64>>,
}

impl<'s> Restoring<'s> {
    pub(super) fn new(
        source: &'s Source<'s>,
        archive: &'s Archive,
        observer: &'s mut dyn SalvageObserver,
        summary: SalvageSummary,
    ) -> Restoring<'s> {
        Restoring {
            source,
            archive,
            observer,
            summary,
            done: RoaringTreemap::new(),
            numbers: HashMap::new(),
            written_streams: HashSet::new(),
            owned: None,
            packs: Packs::default(),
            holes: Holes::default(),
            ambiguous: RoaringTreemap::new(),
            lost_and_found: None,
            zeros_left: u64::from(source.wreck.blocks()) * 4096,
            since_commit: 0,
            written: 0,
        }
    }

    pub(super) fn into_summary(self) -> SalvageSummary {
        self.summary
    }

    pub(super) fn run(&mut self) -> Result<()> {
        if let Some((slot, _)) = self.source.slot {
            self.archive.set_metadata(&slot.metadata)?;
        }
        self.reserved_streams()?;
        if self.source.kind() == ArchiveKind::Dynamic {
            self.find_packs()?;
            self.directories()?;
            self.nameless_slices()?;
        }
        self.recorded_streams()?;
        self.unrecorded_streams()
    }

    fn reserved_streams(&mut self) -> Result<()> {
        for index in 0..RESERVED_STREAMS {
            let Ok(mut stream) = self.archive.reserved_stream(index) else { continue };
            let identity = reserved_identity(index);
            let mut versions = self.source.versions(identity, None).into_iter();
            let Some(version) = versions.next() else { continue };
            if version.length == 0 && version.is_proven {
                continue;
            }
            let content = self.write(&version, &mut stream)?;
            stream.close()?;
            self.report(None, Some(identity), content)?;
            self.other_versions(identity, versions)?;
        }
        Ok(())
    }

    /// Writes the streams that have a record, unless an inode was written with them.
    fn recorded_streams(&mut self) -> Result<()> {
        let source = self.source;
        for found in source.streams.records::<Streams>(source.pages, &Uuid::nil()) {
            let (identity, stored) = found.value;
            match stored.inode {
                Some(PACK_OWNER) => {}
                Some(inode) if self.is_written(InodeNumber(inode.get()), identity) => {}
                Some(_) if source.kind() == ArchiveKind::Dynamic => self.nameless(identity)?,
                _ => self.bare(identity)?,
            }
        }
        Ok(())
    }

    /// Returns whether a stream was written as the content of its inode.
    fn is_written(&self, number: InodeNumber, identity: Uuid) -> bool {
        let is_newest = || {
            let inode = self.source.inodes.get::<Inodes>(self.source.pages, &number);
            inode.is_some_and(|inode| inode.is_newest)
        };
        self.done.contains(number.0) && (self.written_streams.contains(&identity) || is_newest())
    }

    fn bare(&mut self, identity: Uuid) -> Result<()> {
        let mut versions = self.source.versions(identity, None).into_iter();
        let Some(version) = versions.next() else { return Ok(()) };
        let Some(mut stream) = self.target(identity)? else { return Ok(()) };
        let content = self.write(&version, &mut stream)?;
        stream.close()?;
        self.report(None, Some(identity), content)?;
        self.other_versions(identity, versions)
    }

    /// Writes the blocks of streams without a record.
    fn unrecorded_streams(&mut self) -> Result<()> {
        let source = self.source;
        let mut last = None;
        for fragment in source.index.fragments() {
            let identity = fragment.stream;
            if last == Some(identity)
                || reserved_index(identity).is_some()
                || self.written_streams.contains(&identity)
                || self.packs.has(identity)
                || source.stored(identity).is_some()
            {
                continue;
            }
            last = Some(identity);
            match source.kind() {
                ArchiveKind::Dynamic => self.nameless(identity)?,
                _ if self.may_exist(identity) => self.bare(identity)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns whether the newest commit may have a stream without a record.
    fn may_exist(&self, identity: Uuid) -> bool {
        let versions = self.source.versions(identity, None);
        versions.iter().any(|version| !self.source.was_deleted(version.generation()))
    }

    /// Writes every version of a stream to `lost+found`.
    fn nameless(&mut self, identity: Uuid) -> Result<()> {
        let has_record = self.source.stored(identity).is_some();
        let mut versions = self.source.versions(identity, None);
        versions.retain(|version| has_record || !self.source.was_deleted(version.generation()));
        let is_only = versions.len() == 1;
        for version in versions {
            let is_from_start = version.segments.first().is_none_or(|of| of.first.get() == 0);
            let is_plain = is_only && is_from_start;
            let name = if is_plain { identity.to_string() } else { name_of(&version) };
            let is_known = has_record && version.is_proven;
            self.write_nameless(&name, &version, is_known)?;
        }
        Ok(())
    }

    /// Writes versions that may be older or newer than the one that a record names.
    fn other_versions(
        &mut self,
        identity: Uuid,
        versions: impl Iterator<Item = Version>,
    ) -> Result<()> {
        for version in versions {
            if self.source.kind() == ArchiveKind::Dynamic {
                self.write_nameless(&name_of(&version), &version, false)?;
            } else {
                let (length, gaps) = (version.length, Vec::new());
                let content = Content { stream: None, length, outcome: Outcome::Lost, gaps };
                self.report(None, Some(identity), content)?;
            }
        }
        Ok(())
    }

    /// Writes a version to `lost+found`. Without a record, nothing states where in its last block it ends.
    fn write_nameless(&mut self, name: &str, version: &Version, is_known: bool) -> Result<()> {
        let place = self.lost_and_found()?;
        let mut stream = self.archive.new_stream()?;
        let mut content = self.write_from(version, &mut stream, Begin::FirstByteLeft)?;
        let new = stream.identity();
        stream.close()?;
        let attributes = lost_attributes(FILE_MODE);
        let name = self.free_name(&place, name.as_bytes())?;
        self.archive.names().add_file(place.directory, &name, attributes, Some(new))?;
        content.outcome = match content.outcome {
            Outcome::Complete if is_known => Outcome::Nameless,
            Outcome::Complete => Outcome::Unproven,
            other => other,
        };
        self.report(Some(join(&place.path, &name)), Some(version.stream), content)
    }

    /// Returns the inode of the new archive that has this stream already. Only someone with the key, or an out of date
    /// page, can give a stream to several inodes. It is written once, so that the new archive is no longer than the old.
    pub(super) fn owner_of(&self, identity: Uuid) -> Result<Option<InodeNumber>> {
        let mut state = self.archive.state()?;
        let stored = state.writing()?.stored(identity)?;
        Ok(stored.and_then(|stored| stored.inode).map(|owner| InodeNumber(owner.get())))
    }

    /// Writes the content of a file, and further versions of it to `lost+found`.
    pub(super) fn content(&mut self, identity: Uuid, length: Option<u64>) -> Result<Content> {
        let has_record = self.source.stored(identity).is_some();
        let mut versions = self.source.versions(identity, length);
        if !has_record {
            self.written_streams.insert(identity);
            versions.sort_by_key(|version| !version.is_proven);
        }
        let is_ambiguous = versions.len() > 1;
        let mut versions = versions.into_iter();
        let Some(version) = versions.next() else {
            let length = length.unwrap_or(0);
            let gaps = std::iter::once(0..length).collect();
            return Ok(Content { stream: None, length, outcome: Outcome::Gaps, gaps });
        };
        let mut stream = match self.target(identity)? {
            Some(stream) => stream,
            None => self.archive.new_stream()?,
        };
        let mut content = self.write(&version, &mut stream)?;
        content.stream = Some(stream.identity());
        stream.close()?;
        if is_ambiguous && content.outcome == Outcome::Complete {
            content.outcome = Outcome::Unproven;
        }
        self.other_versions(identity, versions)?;
        Ok(content)
    }

    /// Opens a stream of the new archive, with the old identity. Returns `None` if it exists already.
    fn target(&self, identity: Uuid) -> Result<Option<Stream>> {
        if self.archive.kind() == ArchiveKind::Dynamic {
            return match self.archive.open_stream_in(identity, Mode::parse("x")?) {
                Ok(stream) => Ok(Some(stream)),
                Err(Error::StreamExists { .. }) => Ok(None),
                Err(error) => Err(error),
            };
        }
        if reserved_index(identity).is_some() || self.archive.kind() == ArchiveKind::Single {
            return Ok(None);
        }
        {
            let mut state = self.archive.state()?;
            let writing = state.writing()?;
            if writing.stored(identity)?.is_some() {
                return Ok(None);
            }
            writing.trees.put::<Streams>(&identity, &StoredStream::empty(identity))?;
        }
        self.archive.open_stream(identity).map(Some)
    }

    /// Writes a version to an empty stream, from its first byte on.
    fn write(&mut self, version: &Version, stream: &mut Stream) -> Result<Content> {
        self.write_from(version, stream, Begin::Zero)
    }

    /// Writes a version to an empty stream. A gap becomes zeros; one at the end is left out if it is too long.
    fn write_from(
        &mut self,
        version: &Version,
        stream: &mut Stream,
        begin: Begin,
    ) -> Result<Content> {
        let (mut gap, mut is_cut, mut is_begun) = (0, false, begin == Begin::Zero);
        let mut gaps = self.source.read(version, &mut |part| match part {
            _ if is_cut => Ok(()),
            Part::Gap(_) if !is_begun => Ok(()),
            Part::Gap(length) => {
                gap += length;
                Ok(())
            }
            Part::Bytes(bytes) => {
                is_begun = true;
                if gap > self.zeros_left {
                    is_cut = true;
                    return Ok(());
                }
                if gap > 0 {
                    self.zeros_left -= gap;
                    stream.set_len(stream.len()? + gap)?;
                    gap = 0;
                }
                stream.append(bytes)?;
                self.written += bytes.len() as u64;
                self.since_commit += bytes.len() as u64;
                let written = SalvageProgress::Written { bytes: self.written };
                if self.observer.progress(written).is_break() {
                    return Err(stopped());
                }
                if self.since_commit >= COMMITTED_BYTES {
                    self.archive.commit()?;
                    self.since_commit = 0;
                }
                Ok(())
            }
        })?;
        if is_cut {
            let skipped =
                gaps.first().filter(|gap| begin == Begin::FirstByteLeft && gap.start == 0);
            let length = stream.len()? + skipped.map_or(0, |gap| gap.end);
            gaps.retain(|gap| gap.end <= length);
            gaps.push(length..version.length);
        } else if gap > 0 && gap <= self.zeros_left {
            self.zeros_left -= gap;
            stream.set_len(stream.len()? + gap)?;
        }
        let outcome = outcome(version, &gaps);
        Ok(Content { stream: None, length: version.length, outcome, gaps })
    }

    pub(super) fn lost_and_found(&mut self) -> Result<Place> {
        if let Some(place) = &self.lost_and_found {
            return Ok(place.clone());
        }
        let root = Place { directory: InodeNumber::ROOT, path: Vec::new() };
        let name = self.free_name(&root, LOST_AND_FOUND)?;
        let attributes = lost_attributes(DIRECTORY_MODE);
        let directory = self.archive.names().make_directory(root.directory, &name, attributes)?;
        let place = Place { directory, path: name };
        self.lost_and_found = Some(place.clone());
        Ok(place)
    }

    /// Returns the name, with a number after it if the directory has an entry of that name.
    pub(super) fn free_name(&self, place: &Place, name: &[u8]) -> Result<Vec<u8>> {
        let mut free = name.to_vec();
        let mut number = 1_u32;
        while self.is_taken(place, &free)? {
            free = [name, format!(".{number}").as_bytes()].concat();
            number += 1;
        }
        Ok(free)
    }

    /// Returns whether a directory has an entry of this name, or will get one from the old root.
    fn is_taken(&self, place: &Place, name: &[u8]) -> Result<bool> {
        let key = NameKey { directory: place.directory, name: name.to_vec() };
        let is_in_root = place.directory == InodeNumber::ROOT;
        if is_in_root && self.source.names.get::<NameRecords>(self.source.pages, &key).is_some() {
            return Ok(true);
        }
        Ok(self.archive.names().lookup(place.directory, name)?.is_some())
    }

    pub(super) fn lose(&mut self, path: Vec<u8>) -> Result<()> {
        let content = Content { stream: None, length: 0, outcome: Outcome::Lost, gaps: Vec::new() };
        self.report(Some(path), None, content)
    }

    pub(super) fn report_entry(&mut self, path: Vec<u8>, outcome: Outcome) -> Result<()> {
        self.report(
            Some(path),
            None,
            Content { stream: None, length: 0, outcome, gaps: Vec::new() },
        )
    }

    pub(super) fn report(
        &mut self,
        path: Option<Vec<u8>>,
        stream: Option<Uuid>,
        content: Content,
    ) -> Result<()> {
        let Content { length, outcome, gaps, .. } = content;
        self.summary.count(outcome);
        self.observer.salvaged(Salvaged { path, stream, length, outcome, gaps });
        self.since_commit += ENTRY_BYTES;
        if self.since_commit >= COMMITTED_BYTES {
            self.archive.commit()?;
            self.since_commit = 0;
        }
        let written = SalvageProgress::Written { bytes: self.written };
        if self.observer.progress(written).is_break() { Err(stopped()) } else { Ok(()) }
    }
}

/// Returns the attributes of an entry whose own are lost.
pub(super) fn lost_attributes(mode: u32) -> Attributes {
    Attributes { mode, uid: 0, gid: 0, modified: Timestamp::default(), origin: None }
}

/// Returns the name of one of several versions of a stream.
fn name_of(version: &Version) -> String {
    let generation = version.generation();
    let first = version.segments.first().map_or(0, |segment| segment.first.get());
    format!("{}.{}.{}.{first}", version.stream, generation.session, generation.step)
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
