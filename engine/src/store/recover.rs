//! Recovery: what a writer does before its first own write. It trusts nothing that it has only
//! read: after a kill or a failed sync the page cache may show what the disk does not hold.

use super::handle::Store;
use super::open_block::{BlockBuffer, generation_in};
use super::redo::RedoList;
use super::rekeying::{Rekeying, pairs, readable};
use super::superblock::choose::Chosen;
use super::superblock::copy::write_copy;
use super::superblock::header::OpenedHeader;
use crate::crypto::KeyKind;
use crate::error::Result;
use crate::format::{BLOCK_SIZE, BlockRef, RedoEntry};

impl Store {
    /// Makes the chosen commit durable and whole. Only after this may the other pair be written.
    pub(super) fn recover(
        &self,
        header: &OpenedHeader,
        chosen: &Chosen,
        list: &RedoList,
    ) -> Result<()> {
        if crate::fault!(BelieveWhatIsRead) {
            return Ok(());
        }
        // A copy that reads well may be in the page cache only. Written again, one at a time, so that a
        // torn write leaves the other; each synced, so that the commit that we go on from is on disk.
        for (position, sealed) in &chosen.good {
            self.device.write(*position, &sealed[..])?;
            self.device.sync()?;
        }
        // Only now is there a durable copy, so the bad or older one may be written.
        for &position in &chosen.repair {
            write_copy(&*self.device, &self.sealer, &chosen.slot, position)?;
            self.device.sync()?;
        }
        // Copied again even where home already looks right, for the same reason; the copies must be
        // on disk before a commit drops the list.
        if !list.entries.is_empty() {
            self.check_shadow_blocks(list)?;
            self.copy_home(&list.entries)?;
            self.device.sync()?;
        }
        self.recover_header(header, chosen)?;
        Ok(())
    }

    /// Both copies of the header, one at a time. Where one is bad or a change was unfinished, the good one is written
    /// again first: it may be in the page cache only, and a power cut must not find both half written.
    fn recover_header(&self, header: &OpenedHeader, chosen: &Chosen) -> Result<()> {
        if header.repair.is_empty() && header.header.revision == chosen.slot.header_revision {
            return Ok(());
        }
        for &position in header.good.iter().chain(&header.repair) {
            self.device.write(position, &header.bytes[..])?;
            self.device.sync()?;
        }
        Ok(())
    }

    /// Checks that every shadow block opens in the version that the list names, before the first is copied: a
    /// bad shadow block must not replace a good home block.
    fn check_shadow_blocks(&self, list: &RedoList) -> Result<()> {
        let redirects = list.redirects();
        let mut bytes = BlockBuffer::new();
        for entry in &list.entries {
            let block = BlockRef { position: entry.home, generation: entry.generation };
            self.read_into(&redirects, KeyKind::Data, block, &mut bytes)?;
        }
        Ok(())
    }

    /// Copies shadow blocks home, byte for byte.
    pub(super) fn copy_home(&self, entries: &[RedoEntry]) -> Result<()> {
        let mut bytes = [0; BLOCK_SIZE];
        for &RedoEntry { home, shadow, generation } in entries {
            // From the file itself: what a map shows behind the end of one that somebody has cut is zeros, and
            // nothing here is authenticated. What is not the version that was sealed is looked at past the cache.
            self.device.read_unmapped(shadow, &mut bytes)?;
            if generation_in(&bytes) != generation {
                self.device.read_direct(shadow, &mut bytes)?;
            }
            self.device.write(home, &bytes)?;
        }
        Ok(())
    }

    /// Copies the images of the newest window to their places again. One that does not open is no image of a block
    /// that was sealed anew; its place is left as it is.
    pub(super) fn copy_window(&self, rekeying: &Rekeying) -> Result<()> {
        let Some(window) = rekeying.window() else { return Ok(()) };
        if crate::fault!(ForgetRekeyImages) {
            return Ok(());
        }
        for (place, image) in pairs(window) {
            let image = readable(&*self.device, image);
            if let Some(bytes) = image.filter(|bytes| self.sealer.opens(place, bytes)) {
                self.device.write(place, &bytes[..])?;
            }
        }
        self.device.sync()
    }
}
