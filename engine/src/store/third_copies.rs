//! Checks the third copies of header and meta slots, and heals them.

use super::handle::Store;
use super::look::{Look, look_steadily};
use super::superblock::choose::{Chosen, Copies, Copy, choose};
use super::superblock::copy::{read_copies, read_copy, write_copy};
use super::superblock::header::parse;
use super::superblock::places::has_room;
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, HEADERS, MetaSlot, Position, THIRD_HEADER, THIRD_SLOTS, has_third_copies,
    third_slot,
};

/// A third copy that is bad, or of a commit that no crash leaves there.
#[derive(Debug, Clone)]
pub struct BadThirdCopy {
    /// Its position.
    pub position: Position,
    /// What is wrong with it.
    pub error: Error,
    /// Whether the current commit wrote it. No sync followed yet, as far as the archive shows, so a crash may have torn
    /// it.
    pub may_be_torn: bool,
}

impl Store {
    /// Returns the third copies that are bad, or of a commit that no crash leaves there. While another process writes, it
    /// returns none, and does not wait: a commit in progress looks like damage.
    pub fn bad_third_copies(&self) -> Result<Vec<BadThirdCopy>> {
        let Some(readers) = &self.readers else {
            return self.bad_copies_in(&Look::take(&*self.device)?);
        };
        if readers.is_written()? {
            return Ok(Vec::new());
        }
        let examine = |look: &Look<'_>| self.bad_copies_in(look);
        let (found, _) = look_steadily(&*self.device, readers, examine, Vec::is_empty)?;
        if readers.is_written()? { Ok(Vec::new()) } else { Ok(found) }
    }

    fn bad_copies_in(&self, look: &Look<'_>) -> Result<Vec<BadThirdCopy>> {
        let copies = read_copies(look, &self.sealer)?;
        let Chosen { slot, pair, repair, .. } = choose(&copies, self.recovery().lost_pair)?;
        if !has_third_copies(slot.block_count) || !has_room(look)? {
            return Ok(Vec::new());
        }
        let mut bad = Vec::new();
        let before = previous(&copies, pair.positions());
        // A commit writes its third copy after the first one in its pair. A process that was killed in between left the
        // old copy, or none. The same holds for the first third copy of the header. Until the next sync, a power cut can
        // tear both, although it leaves the second copy in the pair whole.
        let is_written = repair.is_empty();
        let had_third = before.is_some_and(|before| has_third_copies(before.block_count));
        // While a change of the header is unfinished, the third copy may be the old one.
        let is_unfinished = newest_revision(look) > Some(slot.header_revision);
        if (is_written || had_third) && !is_unfinished && !is_header(look) {
            let error =
                Error::damaged(THIRD_HEADER, Check::HeaderChecksum, "a copy of the header", "none");
            bad.push(BadThirdCopy { position: THIRD_HEADER, error, may_be_torn: !had_third });
        }
        let third = THIRD_SLOTS.map(|position| read_copy(look, &self.sealer, position));
        bad.extend(bad_slots(&third, &slot, is_written, had_third));
        Ok(bad)
    }

    /// Writes header and meta slot of the chosen commit over third copies that do not open or are older than they
    /// should be. Returns their positions. The caller syncs.
    pub(super) fn heal_third_copies(&self, slot: &MetaSlot) -> Result<Vec<Position>> {
        let mut healed = Vec::new();
        if !has_third_copies(slot.block_count) {
            return Ok(healed);
        }
        let device = &*self.device;
        let header = self.header_bytes();
        if parse(device, THIRD_HEADER).1 != header {
            device.write(THIRD_HEADER, &header[..])?;
            healed.push(THIRD_HEADER);
        }
        for position in THIRD_SLOTS {
            let found = read_copy(device, &self.sealer, position).outcome;
            let is_good = |found: &MetaSlot| position != third_slot(slot.number) || found == slot;
            if !found.is_ok_and(|found| is_good(&found.slot)) {
                write_copy(device, &self.sealer, slot, position)?;
                healed.push(position);
            }
        }
        Ok(healed)
    }
}

/// Returns whether block 256 has the bytes of a copy of the header. If no copy in front can be parsed, the archive was
/// opened with this one.
fn is_header(device: &dyn Device) -> bool {
    let bytes_at = |position| {
        let mut bytes = Box::new([0; BLOCK_SIZE]);
        device.read(position, &mut bytes[..]).is_ok().then_some(bytes)
    };
    let third = bytes_at(THIRD_HEADER);
    let is_lost = HEADERS.iter().all(|&position| parse(device, position).2.is_err());
    third.is_some() && (is_lost || HEADERS.iter().any(|&position| bytes_at(position) == third))
}

/// Returns the highest revision of the two copies of the header in front.
fn newest_revision(device: &dyn Device) -> Option<u64> {
    let revision = |position| parse(device, position).2.ok().map(|header| header.revision());
    HEADERS.into_iter().filter_map(revision).max()
}

/// Returns the meta slot of the commit before the current one, which is in the other pair.
fn previous(copies: &Copies, current: [Position; 2]) -> Option<&MetaSlot> {
    let others = copies.slots.iter().filter(|copy| !current.contains(&copy.position));
    let others = others.filter_map(|copy| copy.outcome.as_ref().ok().map(|good| &good.slot));
    others.max_by_key(|slot| slot.number)
}

/// Compares the third copies of meta slots with the current commit and the one before, if their copies were written.
fn bad_slots(
    third: &[Copy; 2],
    slot: &MetaSlot,
    is_written: bool,
    had_third: bool,
) -> Vec<BadThirdCopy> {
    let mut bad = Vec::new();
    for Copy { position, outcome } in third {
        let is_current = *position == third_slot(slot.number);
        let is_expected = if is_current { is_written } else { had_third };
        if let (Err(_), true) = (outcome, is_expected) {
            let error = Error::damaged(*position, Check::MetaSlot, "a good copy", "none");
            bad.push(BadThirdCopy { position: *position, error, may_be_torn: is_current });
        }
    }
    let newest = third.iter().filter_map(|copy| {
        copy.outcome.as_ref().ok().map(|good| (copy.position, good.slot.number))
    });
    if let Some((position, number)) = newest.max_by_key(|(_, number)| *number) {
        // A crash loses the copy of the last commit. That of the one before was synced first.
        let least = if had_third { slot.number.saturating_sub(1) } else { 0 };
        if !(least..=slot.number).contains(&number) {
            let error = Error::tampered(position, Check::CommitNumber, slot.number, number);
            bad.push(BadThirdCopy { position, error, may_be_torn: false });
        }
    }
    bad
}
