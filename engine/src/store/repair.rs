//! Repair: writes good copies of header, meta slots and doubled blocks over bad ones, in their places. It changes nothing
//! else, and never trusts an older copy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::committed::DueImage;
use super::handle::Store;
use super::open::{Examined, lock_out_readers, open_locked, waiting};
use super::open_block::{BlockBuffer, generation_in};
use super::redo_list::RedoList;
use super::superblock::header::open_header;
use crate::crypto::{KeyKind, SealJob, Secret};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, Block, BlockRef, DoubledRef, OwnedData, Position};

/// An archive that nobody else reads or writes while it is repaired.
pub struct Repairer {
    store: Arc<Store>,
    list: RedoList,
    repaired: Repaired,
}

/// The result of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Blocks that were written again.
    pub healed: Vec<Position>,
    /// Bad blocks without a good copy, which stay as they are.
    pub lost: Vec<Position>,
}

impl Repairer {
    /// Opens the archive in a file, and locks it against every other process. Waits up to `wait` for them.
    pub fn open(path: &Path, secret: &Secret, wait: Duration) -> Result<Repairer> {
        let open = || {
            let file = open_locked(path, wait)?;
            Repairer::open_at(Box::new(file), Some(path), secret, wait)
        };
        open().map_err(|error| error.at_path(path))
    }

    /// Opens the archive on a device.
    pub fn open_device(device: Box<dyn Device>, secret: &Secret) -> Result<Repairer> {
        waiting(Duration::ZERO, || device.locks().lock_writer())?;
        Repairer::open_at(device, None, secret, Duration::ZERO)
    }

    fn open_at(
        device: Box<dyn Device>,
        path: Option<&Path>,
        secret: &Secret,
        wait: Duration,
    ) -> Result<Repairer> {
        lock_out_readers(&*device, wait)?;
        let header = open_header(&*device, secret)?;
        header.header.features.check_writable()?;
        if header.header.rekey.is_some() {
            // Continuing the rekey repairs these copies too.
            return Err(Error::RekeyInProgress);
        }
        let found = Examined::new(&*device, &header, false)?;
        let chosen = found.chosen.clone();
        chosen.slot.features.check_writable()?;
        let (store, list) = found.into_store(device, path, &header, None)?;
        let mut repaired = Repaired::default();
        if !chosen.repair.is_empty() || !header.repair.is_empty() {
            store.recover(&header, &chosen, &[])?;
            repaired.healed.extend(chosen.repair.iter().chain(&header.repair));
        }
        repaired.healed.extend(store.heal_third_copies(&chosen.slot)?);
        // The other pair holds the previous commit. A bad or older copy in it may have held a newer one, which no copy has.
        let may_be_newer = chosen.may_have_held_newer.filter(|newer| !chosen.bad.contains(newer));
        let is_other = |position: &&Position| !chosen.repair.contains(position);
        repaired.lost.extend(chosen.bad.iter().filter(is_other).chain(&may_be_newer));
        Ok(Repairer { store, list, repaired })
    }

    /// Returns the archive, to read the blocks that refer to others.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Repairs the blocks of the redo list.
    pub fn heal_redo_list(&mut self) -> Result<()> {
        let lost = self.list.lost.as_ref().map(|(block, _)| *block);
        for block in self.list.chain.clone() {
            self.heal(KeyKind::Meta, block)?;
        }
        self.heal_shadow_blocks()?;
        self.repaired.lost.extend(lost.map(|block| block.position));
        Ok(())
    }

    /// Writes a shadow block of the redo list again if it does not open, and its content is already in its home location.
    fn heal_shadow_blocks(&mut self) -> Result<()> {
        for DueImage { home, shadow, .. } in self.list.redirects().all_due() {
            if self.sealed(home, shadow).is_some() {
                continue;
            }
            let newest = BlockRef { position: home, generation: shadow.generation };
            // Otherwise the record that names the block shows that it is lost.
            if let Some(bytes) = self.sealed(home, newest) {
                self.store.device.write(shadow.position, &bytes[..])?;
                self.repaired.healed.push(shadow.position);
            }
        }
        Ok(())
    }

    /// Returns the sealed bytes of a block of a stream at a place, if they open for its home location.
    fn sealed(&self, home: Position, at: BlockRef) -> Option<BlockBuffer> {
        let mut bytes = BlockBuffer::new();
        self.store.device.read_direct(at.position, &mut bytes[..]).ok()?;
        let is_right = generation_in(&bytes) == at.generation
            && self.store.sealer.opens_as(KeyKind::Data, home, &bytes);
        is_right.then_some(bytes)
    }

    /// Opens both copies of a block, and writes the good one over a bad one. Returns the content, or `None` if no copy
    /// opens.
    pub fn heal(&mut self, kind: KeyKind, block: DoubledRef) -> Result<Option<Block>> {
        let [first, second] = block.copies();
        match (self.open_copy(kind, first), self.open_copy(kind, second)) {
            (Some(found), Some(_)) => Ok(Some(found)),
            (Some(found), None) => self.write(kind, second, found).map(Some),
            (None, Some(found)) => self.write(kind, first, found).map(Some),
            (None, None) => {
                self.lose(first.position);
                Ok(None)
            }
        }
    }

    /// Counts a block as lost.
    pub fn lose(&mut self, block: Position) {
        self.repaired.lost.push(block);
    }

    /// Makes the repair durable, and returns what was done.
    pub fn finish(mut self) -> Result<Repaired> {
        if !self.repaired.healed.is_empty() {
            self.store.device.sync()?;
        }
        self.repaired.healed.sort_unstable();
        self.repaired.lost.sort_unstable();
        Ok(self.repaired)
    }

    /// Opens a copy, and returns it if it is of the generation that the reference names.
    fn open_copy(&self, kind: KeyKind, copy: BlockRef) -> Option<Block> {
        let mut bytes = BlockBuffer::new();
        self.store.device.read_direct(copy.position, &mut bytes[..]).ok()?;
        if generation_in(&bytes) != copy.generation && !crate::fault!(RepairFromOldCopies) {
            return None;
        }
        let opened = self.store.sealer.open_in_place(kind, copy.position, &mut bytes).ok()?;
        Some(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
    }

    /// Seals a block again for the position of its other copy, in its own generation: a copy is the same version, and
    /// the rest of its nonce is random.
    fn write(&mut self, kind: KeyKind, copy: BlockRef, block: Block) -> Result<Block> {
        let job = SealJob { position: copy.position, head: block.head, data: &block.data };
        let mut bytes = [0; BLOCK_SIZE];
        self.store.sealer.seal_batch(kind, copy.generation, &[job], &mut bytes)?;
        self.store.device.write(copy.position, &bytes)?;
        self.repaired.healed.push(copy.position);
        Ok(block)
    }
}
