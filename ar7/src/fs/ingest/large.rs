//! Large files, which are read while they are stored.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::extended::Extended;
use super::place::{Done, NewContent, Place, Trouble};
use super::read::{READS_MAX, Reading};
use super::store::{Known, Storing};
use crate::fs::walk::{Attributed, Status};
use crate::read_ahead::read_ahead;

/// Size in bytes of the pieces in which a large file is stored.
const PIECE_BYTES: usize = 4 << 20;

/// A large file that was stored.
pub(super) struct Large {
    pub(super) status: Status,
    pub(super) extended: Extended,
    pub(super) content: NewContent,
    pub(super) bytes: u64,
    pub(super) is_changed: bool,
}

impl Storing<'_, '_> {
    /// Reads a large file while storing it: again if it changes meanwhile.
    pub(super) fn large(&mut self, place: &Place<'_>, existing: Option<&Known>) -> Done<Large> {
        let tree = &self.run.tree;
        let (file, mut status) = place.entry.open(tree).map_err(Trouble::Entry)?;
        let mut attempt = 1;
        loop {
            let extended = Extended::read(tree.source, Attributed::Open(file.as_fd()));
            let (content, bytes) = self.copy(place, &file, &status, existing)?;
            let after = tree.source.status_of(file.as_fd());
            let after = after.map_err(|error| place.entry.failed(error));
            let is_changed = after.as_ref().is_ok_and(|after| !after.is_same_version(&status));
            match after {
                Ok(_) if !is_changed || attempt == READS_MAX => {
                    return Ok(Large { status, extended, content, bytes, is_changed });
                }
                Ok(after) => status = after,
                Err(error) => {
                    place.discard(content)?;
                    return Err(Trouble::Entry(error));
                }
            }
            place.discard(content)?;
            attempt += 1;
        }
    }

    /// Stores the content of a large file. Returns it with its length. What does not compress gets a stream of its own.
    fn copy(
        &mut self,
        place: &Place<'_>,
        file: &File,
        status: &Status,
        existing: Option<&Known>,
    ) -> Done<(NewContent, u64)> {
        let mut content = NewContent::Empty;
        match self.copy_parts(place, (file, status), existing, &mut content) {
            Ok(copied_bytes) => Ok((content, copied_bytes)),
            Err(Trouble::Entry(error)) => {
                place.discard(content)?;
                Err(Trouble::Entry(error))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Copies data and holes. Returns the number of bytes.
    fn copy_parts(
        &mut self,
        place: &Place<'_>,
        (file, status): (&File, &Status),
        existing: Option<&Known>,
        content: &mut NewContent,
    ) -> Done<u64> {
        let source = self.run.tree.source;
        let compression = self.run.options.compression.unwrap_or_default();
        let mut reading = Reading::new(source, file, status).up_to_holes();
        let packs_rest = || {
            compression.packs_rest(status.size, |offset, sample| {
                let mut bytes = Vec::with_capacity(sample.len());
                let read = source.read_at(file.as_fd(), offset, &mut bytes)?.min(sample.len());
                sample[..read].copy_from_slice(&bytes[..read]);
                io::Result::Ok(read)
            })
        };
        let (mut copied_bytes, is_sparse) = (0, reading.is_sparse());
        loop {
            let hole = reading.skip_hole();
            let hole = hole.map_err(|error| Trouble::Entry(place.entry.failed(error)))?;
            if hole > 0 {
                if let NewContent::Empty = content {
                    *content = place.begin(existing, compression.packs())?;
                }
                place.append_hole(content, hole)?;
                self.tell_read(hole)?;
            }
            copied_bytes += hole;
            let before = copied_bytes;
            let read = |buffer: &mut Vec<u8>| {
                buffer.clear();
                buffer.reserve_exact(PIECE_BYTES);
                let read = reading.fill(buffer)?;
                Ok((read > 0).then_some(read))
            };
            read_ahead::<Vec<u8>, _, _>(read, |piece: io::Result<&[u8]>| {
                let piece = piece.map_err(|error| Trouble::Entry(place.entry.failed(error)))?;
                if let NewContent::Empty = content {
                    // Only packed content has holes. What cannot be read here is reported where it is stored.
                    let packs = is_sparse && compression.packs()
                        || compression.packs_large(piece)
                        || packs_rest().unwrap_or(false);
                    *content = place.begin(existing, packs)?;
                }
                place.append(content, piece)?;
                copied_bytes += piece.len() as u64;
                self.tell_read(piece.len() as u64)
            })?;
            if hole == 0 && copied_bytes == before {
                return Ok(copied_bytes);
            }
        }
    }
}
