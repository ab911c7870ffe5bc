//! Repacking: live content is moved out of packs with many dead bytes, so that they can be deleted.
//!
//! It happens in commits of its own, after the commit that made the bytes dead. If there is no room, nothing is lost:
//! that transaction is rolled back, and a later one tries again.

use std::collections::BinaryHeap;

use ar7_engine::{Check, Class, Error as EngineError, in_pool};
use rayon::prelude::*;
use uuid::Uuid;

use super::State;
use super::packing::InTransaction;
use crate::blocks::{content_at, is_damage, is_live, next_frame};
use crate::error::Result;
use crate::packs::{BATCH_FRAMES, Content, Encoded, Head, encode, needs_repacking};
use crate::records::{Frames, LIVE_COUNTER, PACKED_COUNTER, Pack, Packs, ReadRecords};

/// Number of live bytes that one commit moves at most. Without room for that, it moves less, down to the second number.
const MOVED_PER_COMMIT: u64 = 16 << 20;
const MOVED_MIN: u64 = 64 << 10;

/// Number of packs that one commit considers.
const CONSIDERED_MAX: usize = 64;

/// A pack is encoded again if that saves one in this many of its bytes.
const SAVED_ONE_IN: u32 = 32;

/// Whether to move content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repack {
    /// While over a quarter of all bytes is dead.
    OverAQuarter,
    /// While any byte is dead, so that no deleted content is left in packs.
    AnyDead,
}

/// A pack with dead bytes. Those with the greatest part of dead bytes come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Dead bytes in each 2^32.
    dead: u64,
    live: u32,
    identity: Uuid,
}

/// What came of an attempt to move packs.
enum Moved {
    None,
    Some,
    /// This pack cannot be moved.
    Stuck(Uuid),
}

impl State {
    /// Moves live content out of some packs, and commits. Returns whether it moved any. Without room it moves nothing.
    ///
    /// A handle that is open prevents it, because a rollback would make the handle stale.
    pub(super) fn repack(&mut self, when: Repack) -> Result<bool> {
        if !self.open.is_empty() || self.has_uncommitted() || !self.must_repack(when) {
            return Ok(false);
        }
        let mut most = MOVED_PER_COMMIT;
        loop {
            match self.repack_at_most(most) {
                Err(error) if matches!(error.class(), Class::NoSpace | Class::HeldByReaders) => {
                    self.rollback()?;
                    if most <= MOVED_MIN {
                        return Ok(false);
                    }
                    most /= 4;
                }
                outcome => return outcome,
            }
        }
    }

    /// Moves up to `most` live bytes in a commit of its own. Returns whether it moved any.
    fn repack_at_most(&mut self, most: u64) -> Result<bool> {
        let moved = self.move_dead_packs(most)?;
        if moved {
            self.flush(true)?;
            self.check_reserve()?;
            self.commit_flushed()?;
        }
        Ok(moved)
    }

    fn must_repack(&self, when: Repack) -> bool {
        let dead = self.dead_bytes();
        match when {
            Repack::OverAQuarter => needs_repacking(dead, self.trees.counters()[PACKED_COUNTER]),
            Repack::AnyDead => dead > 0,
        }
    }

    /// Returns the number of bytes in packs that belong to no file.
    pub(super) fn dead_bytes(&self) -> u64 {
        let counters = self.trees.counters();
        counters[PACKED_COUNTER].saturating_sub(counters[LIVE_COUNTER])
    }

    /// Moves up to `most` bytes of live content out of the packs with the most dead bytes. A damaged pack stays where it is,
    /// for salvage.
    fn move_dead_packs(&mut self, most: u64) -> Result<bool> {
        loop {
            let stuck = match self.try_move_packs(most)? {
                Moved::Some => return Ok(true),
                Moved::None => return Ok(false),
                Moved::Stuck(identity) => identity,
            };
            self.rollback()?;
            self.packing.stuck.insert(stuck);
        }
    }

    fn try_move_packs(&mut self, most: u64) -> Result<Moved> {
        let (mut moved, mut left) = (Moved::None, most);
        for Candidate { live, identity, .. } in self.candidates()? {
            if u64::from(live) > left {
                continue;
            }
            left -= u64::from(live);
            match self.move_pack(identity) {
                // A pack that is still there says that more is alive than its frames do.
                Ok(()) if self.trees.get::<Packs>(&identity)?.is_some() => {
                    return Ok(Moved::Stuck(identity));
                }
                Ok(()) => moved = Moved::Some,
                Err(error) if is_damage(&error) => return Ok(Moved::Stuck(identity)),
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// Returns the packs with the greatest part of dead bytes.
    fn candidates(&self) -> Result<Vec<Candidate>> {
        let mut best = BinaryHeap::new();
        let mut from = Uuid::nil();
        while let Some((identity, Pack { used, live })) = self.trees.ceiling::<Packs>(&from)? {
            if used > live && !self.packing.stuck.contains(&identity) {
                let dead = (u64::from(used - live) << 32) / u64::from(used);
                best.push(std::cmp::Reverse(Candidate { dead, live, identity }));
                if best.len() > CONSIDERED_MAX {
                    best.pop();
                }
            }
            let Some(next) = identity.as_u128().checked_add(1) else { break };
            from = Uuid::from_u128(next);
        }
        Ok(best.into_sorted_vec().into_iter().map(|reversed| reversed.0).collect())
    }

    /// Moves every live frame of a pack, which deletes the pack.
    fn move_pack(&mut self, pack: Uuid) -> Result<()> {
        let Some(stored) = self.stored(pack)? else { return Ok(()) };
        let (length, mut from) = (stored.record.length, 0);
        while let Some(content) = self.next_live((pack, length), &mut from)? {
            self.packing.add_moved(content);
            if self.packing.full_len() >= BATCH_FRAMES {
                self.settle_packing()?;
            }
        }
        self.settle_packing()
    }

    /// Returns the live content of the first frame of a pack from an offset on that is in use, and moves the offset behind
    /// it. The second number is the length of the pack.
    fn next_live(&self, (pack, length): (Uuid, u64), from: &mut u64) -> Result<Option<Content>> {
        while let Some((offset, head)) = next_frame(&InTransaction(self), (pack, length), *from)? {
            *from = offset + u64::from(head.size());
            let frame = self.trees.get::<Frames>(&head.first)?;
            if frame.is_some_and(|frame| frame.is_of(pack, offset, &head)) {
                return self.live_content(pack, offset, &head).map(Some);
            }
        }
        Ok(None)
    }

    /// Encodes the live content of a pack with a level. Returns the frames, and how many of the addresses of each belong to
    /// files; or `None` if that saves less than one in [`SAVED_ONE_IN`] bytes. Changes nothing.
    pub(crate) fn encoded_again(
        &self,
        pack: Uuid,
        record: Pack,
        level: i32,
    ) -> Result<Option<Vec<(Encoded, u64)>>> {
        let Some(stored) = self.stored(pack)? else { return Ok(None) };
        let most = u64::from(record.used - record.used / SAVED_ONE_IN);
        let (length, mut from, mut used) = (stored.record.length, 0, 0);
        let (mut frames, mut batch, mut is_end) = (Vec::new(), Vec::new(), false);
        while !is_end {
            match self.next_live((pack, length), &mut from)? {
                Some(content) => batch.push(content),
                None => is_end = true,
            }
            if is_end || batch.len() >= BATCH_FRAMES {
                for (encoded, live) in encode_all(&batch, level)? {
                    used += u64::from(encoded.head.size());
                    frames.push((encoded, live));
                }
                batch.clear();
            }
            if used >= most {
                return Ok(None);
            }
        }
        Ok((!frames.is_empty()).then_some(frames))
    }

    /// Returns the content of a frame, with zeros for what belongs to no file any more.
    fn live_content(&self, pack: Uuid, offset: u64, head: &Head) -> Result<Content> {
        let content = content_at(&InTransaction(self), pack, offset, head)?;
        let first = content.first;
        let live = content.only(|slice| is_live(&self.trees, first, slice))?;
        if live.slices.is_empty() {
            // A frame without live bytes has no record.
            return Err(EngineError::damaged(None, Check::Frame, "live bytes", "none").into());
        }
        Ok(live)
    }
}

/// Encodes contents on all cores. Returns with each how many of its addresses belong to files.
fn encode_all(contents: &[Content], level: i32) -> Result<Vec<(Encoded, u64)>> {
    let encoded = |content: &Content| Ok((encode(content, Some(level))?, content.sliced_len()));
    in_pool(|| contents.par_iter().map(encoded).collect())
}
