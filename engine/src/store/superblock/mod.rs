//! The reserved blocks that determine the current commit: the copies of the header, two pairs of meta slots, and the
//! third copies of both.

pub(super) mod choose;
pub(super) mod copy;
pub(super) mod header;
pub(super) mod places;
pub(super) mod recovery;
mod third;

use std::collections::HashSet;

use choose::{Chosen, Pair};
use copy::write_copy;
use header::KnownHeader;
use third::ThirdCopies;

use crate::crypto::Sealer;
use crate::device::Device;
use crate::error::Result;
use crate::format::{MetaSlot, Position};

/// The state that determines where the writer's next meta slot goes.
#[derive(Debug)]
pub(super) struct Superblock {
    /// The pair that holds the current commit.
    newest: Pair,
    /// Copies that do not open. In the other pair, such a copy is written first.
    bad_copies: HashSet<Position>,
    third: ThirdCopies,
}

/// A meta slot with one durable copy: the commit counts.
#[must_use = "the second copy must be written next"]
pub(super) struct HalfWritten {
    pair: Pair,
    second: Position,
}

impl Superblock {
    pub(super) fn new(chosen: &Chosen) -> Superblock {
        Superblock {
            newest: chosen.pair,
            bad_copies: chosen.bad.iter().copied().collect(),
            third: ThirdCopies::default(),
        }
    }

    /// Writes one copy to the pair that does not hold the current commit, and syncs it, which makes it the commit.
    ///
    /// Until then the other copy of this pair stays good and older, so a torn write never costs the pair.
    pub(super) fn write_first(
        &mut self,
        device: &dyn Device,
        sealer: &Sealer,
        header: &KnownHeader,
        slot: &MetaSlot,
    ) -> Result<HalfWritten> {
        if crate::fault!(ThirdCopyTooEarly) {
            self.third.write(device, sealer, header, slot)?;
        }
        let pair = self.pair_to_write(slot);
        let [mut first, mut second] = pair.positions();
        if self.bad_copies.contains(&second) {
            // Overwriting the only good copy first could, after a crash, leave the pair without one.
            std::mem::swap(&mut first, &mut second);
        }
        write_copy(device, sealer, slot, first)?;
        if !crate::fault!(SkipSecondSync) {
            device.sync()?;
        }
        Ok(HalfWritten { pair, second })
    }

    /// Writes the other copy and the third one. They are not synced here: until the first sync of the next commit,
    /// recovery writes them again.
    pub(super) fn write_second(
        &mut self,
        device: &dyn Device,
        sealer: &Sealer,
        header: &KnownHeader,
        slot: &MetaSlot,
        HalfWritten { pair, second }: HalfWritten,
    ) -> Result<()> {
        if !crate::fault!(OneCopyOfTheSlot) {
            write_copy(device, sealer, slot, second)?;
        }
        self.third.write(device, sealer, header, slot)?;
        for position in pair.positions() {
            self.bad_copies.remove(&position);
        }
        self.newest = pair;
        Ok(())
    }

    /// Returns the pair that does not hold the current commit.
    fn pair_to_write(&self, slot: &MetaSlot) -> Pair {
        if crate::fault!(PairByParity) {
            return Pair::BOTH[usize::from(slot.generation.step % 2 == 1)];
        }
        self.newest.other()
    }
}
