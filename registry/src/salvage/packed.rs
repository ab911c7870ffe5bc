//! Writes the content of packed files.

use std::ops::Range;

use ar7_engine::Error as EngineError;
use zeroize::Zeroizing;

use super::holes::{Hole, Holes};
use super::packs::{Candidate, FoundSlice, Packs};
use super::report::{Outcome, SalvageProgress, stopped};
use super::restore::{COMMITTED_BYTES, Content, FILE_MODE, Restoring, join, lost_attributes};
use crate::error::{Error, Result};
use crate::names::Packed;
use crate::records::{Attributes, Inode, InodeNumber, Inodes};
use crate::stream::Stream;

/// Where the content of a slice is written.
enum New {
    Stream(Stream),
    Packed(Packed),
}

/// The content of a slice while it is written.
struct Slice {
    new: New,
    /// Number of bytes that it has.
    length: u64,
    /// Number of bytes that were written.
    at: u64,
    /// Number of bytes after them that are lost. They become zeros once something follows.
    lost: u64,
    gaps: Vec<Range<u64>>,
    /// Whether it ends early.
    is_cut: bool,
    /// Whether the newest index names everything that was written.
    is_proven: bool,
}

impl Slice {
    /// Leaves out bytes that are lost.
    fn lose(&mut self, length: u64) {
        if self.is_cut {
            return;
        }
        let begin = self.at + self.lost;
        self.lost += length;
        self.add_gap(begin..begin + length);
    }

    /// Ends the content where it is.
    fn cut(&mut self) {
        self.is_cut = true;
        self.gaps.retain(|gap| gap.end <= self.at);
        self.add_gap(self.at..self.length);
    }

    fn add_gap(&mut self, gap: Range<u64>) {
        match self.gaps.last_mut() {
            _ if gap.is_empty() => {}
            Some(last) if last.end == gap.start => last.end = gap.end,
            _ => self.gaps.push(gap),
        }
    }
}

impl Restoring<'_> {
    /// Finds the frames of all packs, and the holes.
    pub(super) fn find_packs(&mut self) -> Result<()> {
        let (source, written) = (self.source, self.written);
        self.packs = Packs::scan(source, &mut || {
            let at = SalvageProgress::Written { bytes: written };
            if self.observer.progress(at).is_break() { Err(stopped()) } else { Ok(()) }
        })?;
        self.holes = Holes::find(source);
        Ok(())
    }

    /// Writes a file of which a slice is left, under a name. Its content is complete if the newest index names all of its
    /// frames and holes.
    pub(super) fn packed(
        &mut self,
        (directory, name): (InodeNumber, &[u8]),
        attributes: Attributes,
        number: InodeNumber,
        (first, length): (u64, u64),
    ) -> Result<(InodeNumber, Content)> {
        let archive = self.archive;
        let names = archive.names();
        // Only packed content has holes.
        let is_sparse = self.holes.has_any(first..first.saturating_add(length));
        let new = if is_sparse {
            New::Packed(names.begin_packed(None)?)
        } else {
            New::Stream(archive.new_stream()?)
        };
        let (gaps, is_cut, is_proven) = (Vec::new(), false, true);
        let mut slice = Slice { new, length, at: 0, lost: 0, gaps, is_cut, is_proven };
        self.write_slice(number, first, &mut slice)?;
        let Slice { new, gaps, is_proven, .. } = slice;
        let outcome = match (&gaps[..], is_proven) {
            ([], true) => Outcome::Complete,
            ([], false) => Outcome::Unproven,
            _ => Outcome::Gaps,
        };
        let (new, stream) = match new {
            New::Packed(packed) => (names.add_packed(directory, name, attributes, packed)?, None),
            New::Stream(stream) => {
                let identity = stream.identity();
                stream.close()?;
                (names.add_file(directory, name, attributes, Some(identity))?, Some(identity))
            }
        };
        Ok((new, Content { stream, length, outcome, gaps }))
    }

    fn write_slice(&mut self, number: InodeNumber, first: u64, slice: &mut Slice) -> Result<()> {
        let end = first.saturating_add(slice.length);
        let mut at = first;
        while at < end && !slice.is_cut {
            let part = self.packs.slice_from(number, at).filter(|part| part.first < end);
            let begin = part.map_or(end, |part| part.first.max(at));
            for Hole { addresses, is_newest } in self.holes.take(at..begin) {
                slice.lose(addresses.start - at);
                slice.is_proven &= is_newest;
                self.append_hole(slice, addresses.end - addresses.start)?;
                at = addresses.end;
            }
            slice.lose(begin - at);
            at = begin;
            if let Some(part) = part {
                at = part.end().min(end);
                slice.is_proven &= self.packs.is_indexed(&part);
                self.append_part(slice, &part, (begin, at))?;
            }
        }
        self.fill_gap(slice)
    }

    /// Appends a part of a slice, which is a slice of a frame.
    fn append_part(
        &mut self,
        slice: &mut Slice,
        part: &FoundSlice,
        (begin, end): (u64, u64),
    ) -> Result<()> {
        let mut bytes = Zeroizing::new(Vec::new());
        let is_read = self.packs.read(self.source, part, (begin, end), &mut |read| {
            bytes.extend_from_slice(read);
            Ok(())
        })?;
        if !is_read {
            slice.lose(end - begin);
            return Ok(());
        }
        self.fill_gap(slice)?;
        if slice.is_cut {
            return Ok(());
        }
        match &mut slice.new {
            New::Stream(stream) => stream.append(&bytes)?,
            New::Packed(packed) => self.archive.names().append_packed(packed, &bytes)?,
        }
        slice.at += bytes.len() as u64;
        self.written += bytes.len() as u64;
        self.since_commit += bytes.len() as u64;
        let at = SalvageProgress::Written { bytes: self.written };
        if self.observer.progress(at).is_break() {
            return Err(stopped());
        }
        // A commit would end content that is being packed.
        if self.since_commit >= COMMITTED_BYTES && matches!(slice.new, New::Stream(_)) {
            self.archive.commit()?;
            self.since_commit = 0;
        }
        Ok(())
    }

    /// Appends zeros for what is lost. If there are more than any archive of this size can have lost, the content ends.
    fn fill_gap(&mut self, slice: &mut Slice) -> Result<()> {
        let gap = std::mem::take(&mut slice.lost);
        if gap == 0 {
            return Ok(());
        }
        if gap > self.zeros_left {
            slice.cut();
            return Ok(());
        }
        self.zeros_left -= gap;
        self.append_zeros(slice, gap)
    }

    fn append_hole(&mut self, slice: &mut Slice, length: u64) -> Result<()> {
        self.fill_gap(slice)?;
        if slice.is_cut { Ok(()) } else { self.append_zeros(slice, length) }
    }

    fn append_zeros(&mut self, slice: &mut Slice, length: u64) -> Result<()> {
        match &mut slice.new {
            New::Stream(stream) => stream.set_len(stream.len()? + length)?,
            New::Packed(packed) => match self.archive.names().append_hole(packed, length) {
                Err(Error::Engine(EngineError::Full { .. })) => {
                    slice.cut();
                    return Ok(());
                }
                outcome => outcome?,
            },
        }
        slice.at += length;
        Ok(())
    }

    /// Returns whether tables name content of a file that was written after the one that an old record names.
    pub(super) fn has_newer_content(&self, number: InodeNumber, inode: &Inode) -> bool {
        let known = inode.slice.map_or(0, |first| first.saturating_add(inode.size));
        self.packs.candidates(self.source, number).iter().any(|content| content.first >= known)
    }

    /// Reports the name of a file that has several contents. They are written to `lost+found` later.
    pub(super) fn lose_ambiguous(&mut self, number: InodeNumber, path: Vec<u8>) -> Result<()> {
        self.done.insert(number.0);
        self.ambiguous.insert(number.0);
        self.lose(path)
    }

    /// Writes packed content of lost inodes to `lost+found`.
    pub(super) fn nameless_slices(&mut self) -> Result<()> {
        let source = self.source;
        for number in self.packs.inodes() {
            let is_lost = || {
                // A whole tree has no such inode or no such name, so the file was deleted.
                let was_deleted = source.inodes.is_whole || source.names.is_whole;
                !was_deleted && source.inodes.get::<Inodes>(source.pages, &number).is_none()
            };
            let is_ambiguous = self.ambiguous.contains(number.0);
            if is_ambiguous || !self.done.contains(number.0) && is_lost() {
                for candidate in self.packs.candidates(source, number) {
                    self.nameless_slice(number, candidate)?;
                }
            }
        }
        Ok(())
    }

    fn nameless_slice(&mut self, number: InodeNumber, candidate: Candidate) -> Result<()> {
        let place = self.lost_and_found()?;
        let name = format!("inode-{}.{}", number.0, candidate.first);
        let name = self.free_name(&place, name.as_bytes())?;
        let attributes = lost_attributes(FILE_MODE);
        let range = (candidate.first, candidate.length);
        let (_, mut content) = self.packed((place.directory, &name), attributes, number, range)?;
        unproven(&mut content);
        self.report(Some(join(&place.path, &name)), None, content)
    }
}

/// Nothing but an inode states where a file ends.
pub(super) fn unproven(content: &mut Content) {
    if content.outcome == Outcome::Complete {
        content.outcome = Outcome::Unproven;
    }
}
