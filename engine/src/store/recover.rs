//! Recovery: the repairs of a writer before its own first write. It trusts nothing that it has only read: after a
//! kill or a failed sync, the page cache may show data that the disk does not hold.

use std::collections::HashSet;

use super::committed::DueImage;
use super::handle::Store;
use super::open_block::{BlockBuffer, generation_in};
use super::rekeying::{Rekeying, pairs, readable};
use super::superblock::choose::Chosen;
use super::superblock::copy::{read_copy, write_copy};
use super::superblock::header::{OpenedHeader, write_header_copies};
use crate::crypto::KeyKind;
use crate::error::Result;
use crate::format::{MetaSlot, Position, THIRD_HEADER, has_third_copies, third_slot};

impl Store {
    /// Makes both copies of the chosen commit good and durable. Only after this may the other pair be written. Copies
    /// the images of its redo list in `to_copy` to their home locations. Returns the home locations of those that do
    /// not open.
    pub(super) fn recover(
        &self,
        header: &OpenedHeader,
        chosen: &Chosen,
        to_copy: &[DueImage],
    ) -> Result<HashSet<Position>> {
        if crate::fault!(TrustWhatIsRead) {
            return Ok(HashSet::new());
        }
        // A copy that reads well may be in the page cache only. It is written again, one copy at a time, so that a
        // torn write leaves the other. Each write is synced, so that the commit on which this writer builds is on
        // disk. The bytes are the same, so that a reader never finds the copy torn.
        for (number, (position, sealed)) in chosen.good.iter().enumerate() {
            if crate::fault!(ResealGoodSlots) {
                write_copy(&*self.device, &self.sealer, &chosen.slot, *position)?;
            } else {
                self.device.write(*position, &sealed[..])?;
            }
            self.device.sync()?;
            if number == 0 {
                self.write_third_copies(header, chosen)?;
            }
        }
        // Only now is a good copy durable, so that a bad or older one may be overwritten.
        for &position in &chosen.repair {
            write_copy(&*self.device, &self.sealer, &chosen.slot, position)?;
            self.device.sync()?;
        }
        // Shadow blocks are copied again even if the home location looks right, for the same reason. The copies must
        // be on disk before a commit drops the list.
        let bad = self.copy_home(to_copy)?;
        if !to_copy.is_empty() {
            self.device.sync()?;
        }
        self.recover_header(header, chosen)?;
        Ok(bad)
    }

    /// Writes the third copies of the chosen commit and of the header, if it has them. A crash may have lost them, and the
    /// next commit overwrites the one of the commit before. The commit is durable by now, and the sync of the other copy in
    /// its pair makes these durable too. A good copy is written byte for byte, so that a crash cannot tear it.
    fn write_third_copies(&self, header: &OpenedHeader, chosen: &Chosen) -> Result<()> {
        let MetaSlot { block_count, number, .. } = chosen.slot;
        if !has_third_copies(block_count) {
            return Ok(());
        }
        if is_settled(header, chosen) {
            self.device.write(THIRD_HEADER, &header.bytes[..])?;
        }
        let position = third_slot(number);
        if chosen.good.iter().any(|(good, _)| *good == position) {
            return Ok(());
        }
        match read_copy(&*self.device, &self.sealer, position).outcome {
            Ok(found) if found.slot == chosen.slot => {
                self.device.write(position, &found.sealed[..])
            }
            _ => write_copy(&*self.device, &self.sealer, &chosen.slot, position),
        }
    }

    /// Repairs the header, one copy at a time, if a copy is bad or a change was unfinished. The good copy is written
    /// again first: it may be in the page cache only, and a power cut must not find both half written.
    fn recover_header(&self, header: &OpenedHeader, chosen: &Chosen) -> Result<()> {
        if is_settled(header, chosen) {
            return Ok(());
        }
        let positions: Vec<Position> = header.good.iter().chain(&header.repair).copied().collect();
        let block_count = chosen.slot.block_count;
        write_header_copies(&*self.device, &header.bytes, &positions, block_count)
    }

    /// Copies shadow blocks home, byte for byte. Returns the home locations of those that do not open. Such a block
    /// never replaces its home location.
    pub(super) fn copy_home(&self, due: &[DueImage]) -> Result<HashSet<Position>> {
        let mut bad = HashSet::new();
        let mut bytes = BlockBuffer::new();
        for image in due {
            if self.read_image(image, &mut bytes) {
                self.device.write(image.home, &bytes[..])?;
            } else if !self.is_home(image, &mut bytes) {
                bad.insert(image.home);
            }
        }
        Ok(bad)
    }

    /// Reads the sealed bytes of an image. Returns whether they are the version that the list names. An image of the
    /// current commit was sealed a moment ago, so its generation is enough.
    fn read_image(&self, image: &DueImage, bytes: &mut BlockBuffer) -> bool {
        let DueImage { home, shadow, is_new } = *image;
        // Read from the file itself. A map shows zeros behind the end of a file that another program has cut. A block
        // of another generation is read again past the page cache.
        let is_right = |bytes: &BlockBuffer| {
            generation_in(bytes) == shadow.generation
                && (is_new
                    || self.sealer.opens_as(KeyKind::Data, home, bytes)
                    || crate::fault!(CopyUnopened))
        };
        self.device.read_unmapped(shadow.position, &mut bytes[..]).is_ok() && is_right(bytes)
            || self.device.read_direct(shadow.position, &mut bytes[..]).is_ok() && is_right(bytes)
    }

    /// Returns whether the newest version of a block is already in its home location.
    fn is_home(&self, image: &DueImage, bytes: &mut BlockBuffer) -> bool {
        self.device.read_direct(image.home, &mut bytes[..]).is_ok()
            && generation_in(bytes) == image.shadow.generation
            && self.sealer.opens_as(KeyKind::Data, image.home, bytes)
    }

    /// Copies the shadow blocks of a rekey's newest window to their home locations again. A shadow block that does
    /// not open belongs to a block that was left unchanged, so its home location stays as it is.
    pub(super) fn copy_window(&self, rekeying: &Rekeying) -> Result<()> {
        let Some(window) = rekeying.window() else { return Ok(()) };
        if crate::fault!(ForgetRekeyShadowBlocks) {
            return Ok(());
        }
        for (home, shadow) in pairs(window) {
            let shadow = readable(&*self.device, shadow);
            if let Some(bytes) = shadow.filter(|bytes| self.sealer.opens(home, bytes)) {
                self.device.write(home, &bytes[..])?;
            }
        }
        self.device.sync()
    }
}

/// Returns whether all copies of the header in front are good, and no change of it was interrupted.
fn is_settled(header: &OpenedHeader, chosen: &Chosen) -> bool {
    header.repair.is_empty() && header.header.revision == chosen.slot.header_revision
}
