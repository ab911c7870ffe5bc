//! Writes the content of packed files.

use std::ops::Range;

use super::packs::{Candidate, Packs};
use super::report::{Outcome, SalvageProgress, stopped};
use super::restore::{COMMITTED_BYTES, Content, FILE_MODE, Restoring, join, lost_attributes};
use crate::error::Result;
use crate::records::{Inode, InodeNumber, Inodes};
use crate::stream::Stream;

impl Restoring<'_> {
    /// Finds the frames of all packs.
    pub(super) fn find_packs(&mut self) -> Result<()> {
        let (source, written) = (self.source, self.written);
        self.packs = Packs::scan(source, &mut || {
            let at = SalvageProgress::Written { bytes: written };
            if self.observer.progress(at).is_break() { Err(stopped()) } else { Ok(()) }
        })?;
        Ok(())
    }

    /// Writes a slice of an inode. It is complete if the newest index names all of its frames.
    pub(super) fn packed(
        &mut self,
        number: InodeNumber,
        first: u64,
        length: u64,
    ) -> Result<Content> {
        let mut stream = self.archive.new_stream()?;
        let identity = stream.identity();
        let written = self.write_slice(number, (first, length), &mut stream);
        stream.close()?;
        let (gaps, is_indexed) = written?;
        let outcome = match (&gaps[..], is_indexed) {
            ([], true) => Outcome::Complete,
            ([], false) => Outcome::Unproven,
            _ => Outcome::Gaps,
        };
        Ok(Content { stream: Some(identity), length, outcome, gaps })
    }

    /// Returns the gaps, and whether the newest index names all frames.
    fn write_slice(
        &mut self,
        number: InodeNumber,
        (first, length): (u64, u64),
        stream: &mut Stream,
    ) -> Result<(Vec<Range<u64>>, bool)> {
        let end = first.saturating_add(length);
        let (mut at, mut gaps, mut is_indexed) = (first, Vec::<Range<u64>>::new(), true);
        while at < end {
            let slice = self.packs.slice_from(number, at).filter(|slice| slice.first < end);
            let begin = slice.map_or(end, |slice| slice.first.max(at));
            let after = slice.map_or(end, |slice| slice.end().min(end));
            add_gap(&mut gaps, at - first..begin - first);
            let gap = begin - first - stream.len()?;
            if gap > self.zeros_left {
                // A gap that no archive of this size can have.
                add_gap(&mut gaps, begin - first..length);
                return Ok((gaps, is_indexed));
            }
            if let Some(slice) = slice {
                is_indexed &= self.packs.is_indexed(&slice);
                let mut bytes = Vec::new();
                let is_read =
                    self.packs.read(self.source, &slice, (begin, after), &mut |read| {
                        bytes.extend_from_slice(read);
                        Ok(())
                    })?;
                if is_read {
                    self.append(stream, gap, &bytes)?;
                } else {
                    add_gap(&mut gaps, begin - first..after - first);
                }
            }
            at = after;
        }
        let gap = length - stream.len()?;
        if gap > 0 && gap <= self.zeros_left {
            self.append(stream, gap, &[])?;
        }
        Ok((gaps, is_indexed))
    }

    fn append(&mut self, stream: &mut Stream, gap: u64, bytes: &[u8]) -> Result<()> {
        if gap > 0 {
            self.zeros_left -= gap;
            stream.set_len(stream.len()? + gap)?;
        }
        stream.append(bytes)?;
        self.written += bytes.len() as u64;
        self.since_commit += bytes.len() as u64;
        let at = SalvageProgress::Written { bytes: self.written };
        if self.observer.progress(at).is_break() {
            return Err(stopped());
        }
        if self.since_commit >= COMMITTED_BYTES {
            self.archive.commit()?;
            self.since_commit = 0;
        }
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
        let mut content = self.packed(number, candidate.first, candidate.length)?;
        let attributes = lost_attributes(FILE_MODE);
        self.archive.names().add_file(place.directory, &name, attributes, content.stream)?;
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

fn add_gap(gaps: &mut Vec<Range<u64>>, gap: Range<u64>) {
    if gap.is_empty() {
        return;
    }
    match gaps.last_mut() {
        Some(last) if last.end == gap.start => last.end = gap.end,
        _ => gaps.push(gap),
    }
}
