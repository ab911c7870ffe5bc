//! Recovery: what a writer does before its first own write. It trusts nothing that it has only
//! read: after a kill or a failed sync the page cache may show what the disk does not hold.

use super::Store;
use super::choose::Chosen;
use super::header::OpenedHeader;
use super::read::BlockBuffer;
use super::redo::RedoList;
use crate::crypto::KeyKind;
use crate::error::Result;
use crate::format::Position;

/// What opening found amiss; a writer has mended it, a reader has only noted it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Header copies that were damaged, or older without a reason.
    pub headers: Vec<Position>,
    /// Header copies that a change of the header had not reached when it was cut off.
    pub older_headers: Vec<Position>,
    /// Meta slots that did not open.
    pub bad_slots: Vec<Position>,
    /// Copies of the newest meta slot that were bad or older: the last writer did not close.
    pub older_slots: Vec<Position>,
    /// Blocks on the redo list.
    pub redo_blocks: usize,
    /// Whether a pair of meta slots has no good copy, so that the newest commit may be lost.
    pub lost_pair: bool,
}

impl Recovery {
    pub(super) fn new(header: &OpenedHeader, chosen: &Chosen, list: &RedoList) -> Recovery {
        // Both copies are durable before a commit names them: an older one is no surprise only before that.
        let is_under_way = header.header.revision > chosen.slot.header_revision;
        let (older_headers, headers) = header
            .mend
            .iter()
            .partition(|position| is_under_way && header.older.contains(position));
        Recovery {
            headers,
            older_headers,
            bad_slots: chosen.bad.clone(),
            older_slots: chosen.mend.clone(),
            redo_blocks: list.entries.len(),
            lost_pair: chosen.lost.is_some(),
        }
    }

    /// Whether the archive was as a clean close leaves it.
    pub fn is_clean(&self) -> bool {
        *self == Recovery::default()
    }
}

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
        for &position in &chosen.mend {
            self.write_meta(&chosen.slot, position)?;
            self.device.sync()?;
        }
        // Copied again also where the place already looks right, for the same reason; the copies must be
        // on disk before a commit drops the list.
        if !list.entries.is_empty() {
            self.check_images(list)?;
            self.copy_images(&list.entries)?;
            self.device.sync()?;
        }
        self.recover_header(header, chosen)?;
        Ok(())
    }

    /// Both copies of the header, one at a time. Where one is bad or a change was under way, the good one is written
    /// again first: it may be in the page cache only, and a power cut must not find both half written.
    fn recover_header(&self, header: &OpenedHeader, chosen: &Chosen) -> Result<()> {
        if header.mend.is_empty() && header.header.revision == chosen.slot.header_revision {
            return Ok(());
        }
        for &position in header.good.iter().chain(&header.mend) {
            self.device.write(position, &header.bytes[..])?;
            self.device.sync()?;
        }
        Ok(())
    }

    /// Every image opens for its place, in the version that the list names. Checked before the first is copied: a
    /// bad image must not replace a place.
    fn check_images(&self, list: &RedoList) -> Result<()> {
        let redirects = list.redirects();
        let mut bytes = BlockBuffer::new();
        for entry in &list.entries {
            let block =
                crate::format::BlockRef { position: entry.place, generation: entry.generation };
            self.read_into(&redirects, KeyKind::Data, block, &mut bytes)?;
        }
        Ok(())
    }
}
