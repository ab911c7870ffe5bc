//! Packed content: each pack is read from its first frame to its last, and frames, packs and files agree on what is in
//! use. Unless the verification is to be quick, each frame is decoded.

use std::collections::HashMap;

use ar7_engine::format::StoredStream;
use ar7_engine::{Check, Error as EngineError};
use uuid::Uuid;

use super::finding::{Depth, Subject};
use super::verifier::Verifier;
use crate::blocks::{content_at, is_live, next_frame};
use crate::error::{Error, Result};
use crate::packs::{Content, Slice};
use crate::records::{
    ADDRESS_COUNTER, DeadSlices, Frame, Frames, LIVE_COUNTER, PACK_OWNER, PACKED_COUNTER, Pack,
    Packs, ReadRecords, Stored, Streams, TreeId,
};

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

    /// Reads each frame of a pack.
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
        let (pack, length) = (stored.record.identity, stored.record.length);
        let (mut from, mut used, mut frames) = (0, 0, 0);
        while !self.is_stopped
            && let Some((offset, head)) = next_frame(self.snapshot, (pack, length), from)?
        {
            from = offset + u64::from(head.size());
            let frame = self.snapshot.get::<Frames>(&head.first).ok().flatten();
            if let Some(frame) = frame.filter(|frame| frame.is_of(pack, offset, &head)) {
                match self.depth {
                    Depth::Content => {
                        let content = content_at(self.snapshot, pack, offset, &head)?;
                        self.check_content(pack, &frame, &content);
                    }
                    Depth::Blocks if from > length => {
                        let cut = EngineError::damaged(None, Check::Frame, from, length);
                        return Err(cut.into());
                    }
                    Depth::Blocks => {}
                }
                frames += 1;
            }
            used += u64::from(head.size());
        }
        self.summary.frames += frames;
        Ok((used, frames))
    }

    /// Checks that a frame counts the bytes that belong to files.
    fn check_content(&mut self, pack: Uuid, frame: &Frame, content: &Content) {
        let lengths = |is_counted: &dyn Fn(&Slice) -> bool| -> u64 {
            let counted = content.slices.iter().filter(|slice| is_counted(slice));
            counted.map(|slice| u64::from(slice.length)).sum()
        };
        let written = lengths(&|_| true);
        let is_live = |slice: &Slice| is_live(self.snapshot, content.first, slice).unwrap_or(false);
        let live = lengths(&is_live);
        if (written, live) != (frame.written, frame.live) && self.unreadable_pages == 0 {
            self.disagree(Subject::Stream(pack), Check::Frame, frame.live, live);
        }
    }
}

/// Returns whether an error is about a block, and not about the frames in it.
fn is_unreadable(error: &Error) -> bool {
    !matches!(error, Error::Engine(EngineError::Damaged(fault)) if fault.check == Check::Frame)
}
