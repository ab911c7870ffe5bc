//! Packed content: each pack is read from its first frame to its last, each frame is decoded, and frames, packs and
//! files agree on what is in use.

use std::collections::HashMap;

use ar7_engine::format::{DATA_SIZE_U64, StoredStream};
use ar7_engine::{Check, Error as EngineError, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::finding::Subject;
use super::verifier::Verifier;
use crate::error::{Error, Result};
use crate::packs::{Content, HEAD_SIZE, Head, Slice, decode, read_head};
use crate::records::{
    ADDRESS_COUNTER, DeadSlices, Frame, Frames, InodeNumber, Inodes, LIVE_COUNTER, PACK_OWNER,
    PACKED_COUNTER, Pack, Packs, ReadRecords, Stored, Streams, TreeId,
};
use crate::stream::PinnedStream;

/// What the frames say of one pack.
#[derive(Default)]
struct Claimed {
    live: u64,
    /// Number of frames.
    frames: u64,
}

/// Sums over the whole archive.
#[derive(Default)]
struct Totals {
    used: u64,
    live: u64,
}

impl Verifier<'_> {
    /// Checks frames and packs. `sliced` is the number of bytes that the files have in slices.
    pub(super) fn check_packs(&mut self, sliced: u64) {
        let claimed = self.check_frames(sliced);
        let mut totals = Totals::default();
        self.walk::<Packs>(&mut |verifier, identity, pack| {
            totals.used += u64::from(pack.used);
            totals.live += u64::from(pack.live);
            let claimed = claimed.get(&identity);
            let live = claimed.map_or(0, |claimed| claimed.live);
            if live != u64::from(pack.live) && verifier.unreadable_pages == 0 {
                verifier.disagree(Subject::Stream(identity), Check::Frame, pack.live, live);
            }
            verifier.check_pack(identity, pack, claimed.map_or(0, |claimed| claimed.frames));
        });
        let counters = self.snapshot.commit().slot.counters;
        for (counter, sum) in [(PACKED_COUNTER, totals.used), (LIVE_COUNTER, totals.live)] {
            if counters[counter] != sum && self.unreadable_pages == 0 {
                self.disagree(Subject::Tree(TreeId::Packs), Check::Frame, sum, counters[counter]);
            }
        }
    }

    /// Checks that frames do not overlap, and belong to packs. Returns what they say of each pack.
    fn check_frames(&mut self, sliced: u64) -> HashMap<Uuid, Claimed> {
        let (mut claimed, mut end, mut live) = (HashMap::<Uuid, Claimed>::new(), 0, 0_u64);
        self.walk::<Frames>(&mut |verifier, first, frame| {
            if first < end {
                verifier.disagree(Subject::Tree(TreeId::Frames), Check::Frame, end, first);
            }
            end = first.saturating_add(frame.length);
            live = live.saturating_add(frame.live);
            let Some(Stored { pack, .. }) = frame.stored else { return };
            if claimed.contains_key(&pack)
                || matches!(verifier.snapshot.get::<Packs>(&pack), Ok(Some(_)) | Err(_))
            {
                let claimed = claimed.entry(pack).or_default();
                claimed.live += u64::from(frame.live_bytes());
                claimed.frames += 1;
            } else {
                verifier.disagree(Subject::Tree(TreeId::Frames), Check::Frame, "a pack", pack);
            }
        });
        let next = self.snapshot.commit().slot.counters[ADDRESS_COUNTER];
        if next < end {
            // New content would get addresses that are in use.
            self.disagree(Subject::Tree(TreeId::Frames), Check::Frame, end, next);
        }
        let mut dead = 0_u64;
        self.walk::<DeadSlices>(&mut |_, _, length| dead = dead.saturating_add(length));
        if live != sliced.saturating_add(dead) && self.unreadable_pages == 0 {
            self.disagree(
                Subject::Tree(TreeId::Frames),
                Check::Frame,
                sliced.saturating_add(dead),
                live,
            );
        }
        claimed
    }

    /// Decodes each frame of a pack.
    fn check_pack(&mut self, identity: Uuid, pack: Pack, frames: u64) {
        let subject = || Subject::Stream(identity);
        let stored = match self.snapshot.get::<Streams>(&identity) {
            Ok(Some(stored)) if stored.inode == Some(PACK_OWNER) => stored,
            Ok(_) => return self.disagree(subject(), Check::Frame, "the stream of a pack", "none"),
            // The walk reports the unreadable page.
            Err(_) => return,
        };
        match self.try_check_pack(&stored) {
            Ok((used, found)) if (used, found) != (u64::from(pack.used), frames) => {
                self.disagree(subject(), Check::Frame, pack.used, used);
            }
            Ok(_) => {}
            // The walk over the streams opens the blocks, and reports those that are unreadable.
            Err(error) if is_unreadable(&error) => {}
            Err(error) => self.find(subject(), error),
        }
    }

    /// Returns the number of bytes that the frames of a pack use, and the number of frames that the index knows.
    fn try_check_pack(&mut self, stored: &StoredStream) -> Result<(u64, u64)> {
        let identity = stored.record.identity;
        let stream = self.snapshot.read_stream(identity)?;
        let (mut offset, mut used, mut frames) = (0, 0, 0);
        while offset < stream.len() && !self.is_stopped {
            let Some(head) = head_at(&stream, offset)? else {
                offset = offset.saturating_add(1).next_multiple_of(DATA_SIZE_U64);
                continue;
            };
            let size = u64::from(HEAD_SIZE) + u64::from(head.stored);
            if let Some(frame) = self.indexed(identity, offset, &head) {
                self.check_content(identity, &frame, &content_at(&stream, offset, &head)?);
                frames += 1;
            }
            used += size;
            offset += size;
        }
        Ok((used, frames))
    }

    /// Returns the record of a frame, if it is the one in use for its addresses.
    fn indexed(&self, pack: Uuid, offset: u64, head: &Head) -> Option<Frame> {
        let frame = self.snapshot.get::<Frames>(&head.first).ok().flatten()?;
        let is_this = frame.is_at(pack, offset, head.stored)
            && frame.stored.is_some_and(|stored| stored.method == head.method)
            && frame.length == u64::from(head.length);
        is_this.then_some(frame)
    }

    /// Checks that a frame counts the bytes that belong to files.
    fn check_content(&mut self, pack: Uuid, frame: &Frame, content: &Content) {
        let lengths = |is_counted: &dyn Fn(&Slice) -> bool| -> u64 {
            let counted = content.slices.iter().filter(|slice| is_counted(slice));
            counted.map(|slice| u64::from(slice.length)).sum()
        };
        let written = lengths(&|_| true);
        let live = lengths(&|slice| self.is_live(content.first, slice));
        if (written, live) != (frame.written, frame.live) && self.unreadable_pages == 0 {
            self.disagree(Subject::Stream(pack), Check::Frame, frame.live, live);
        }
    }

    /// Returns whether a slice of a frame belongs to its inode, or to a deleted file whose frames are not all free yet.
    fn is_live(&self, first: u64, slice: &Slice) -> bool {
        let inode = self.snapshot.get::<Inodes>(&InodeNumber(slice.inode)).ok().flatten();
        let of_inode = inode.and_then(|inode| Some((inode.slice?, inode.size)));
        let begin = first + u64::from(slice.start);
        let dead = self.snapshot.floor::<DeadSlices>(&begin).ok().flatten();
        [of_inode, dead].into_iter().flatten().any(|range| slice.is_within(first, range))
    }
}

/// Returns the head of the frame at an offset of a pack, or `None` if the rest of the block is unused.
fn head_at(stream: &PinnedStream, offset: u64) -> Result<Option<Head>> {
    let mut bytes = [0; HEAD_SIZE as usize];
    let read = stream.read_at(offset, &mut bytes)?;
    if bytes[..4] == [0; 4] {
        return Ok(None);
    }
    if read < bytes.len() {
        return Err(cut_short(bytes.len(), read));
    }
    read_head(&bytes).map(Some)
}

fn content_at(stream: &PinnedStream, offset: u64, head: &Head) -> Result<Content> {
    let length = usize::try_from(head.stored).expect("a u32 fits");
    let mut bytes = Zeroizing::new(vec![0; length]);
    let read = stream.read_at(offset + u64::from(HEAD_SIZE), &mut bytes)?;
    if read < bytes.len() {
        return Err(cut_short(bytes.len(), read));
    }
    decode(head, &bytes)
}

fn cut_short(expected: usize, found: usize) -> Error {
    let (expected, found): (Value, Value) = (expected.into(), found.into());
    EngineError::damaged(None, Check::Frame, expected, found).into()
}

/// Returns whether an error is about a block, and not about the frames in it.
fn is_unreadable(error: &Error) -> bool {
    !matches!(error, Error::Engine(EngineError::Damaged(fault)) if fault.check == Check::Frame)
}
