//! Changes the master key: every block is sealed again for its own position, with the same generation.
//!
//! The header is written first. From then on its key slots wrap the new master key, and the new master key wraps the
//! old one. Then one window of blocks at a time is sealed again:
//!
//! 1. The window's blocks, sealed under the new key, are written to shadow blocks behind the end of the archive. A
//!    sync makes them durable, and the home locations of the window before.
//! 2. A meta slot records the new watermark, in two copies as for any commit. From now on the window counts as sealed
//!    under the new key. Readers find it in the shadow blocks; the watermark alone determines the window and where
//!    its shadow blocks are.
//! 3. The shadow blocks are copied to their home locations. The next window uses other shadow blocks, so a crash
//!    never finds these overwritten.
//!
//! A crash in step 1 leaves the old watermark and unchanged home locations. A crash in step 2 leaves the old
//! watermark or the new one. A crash in step 3 leaves whole shadow blocks, which recovery copies again. At the end,
//! one commit clears the watermark and another drops the old key.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;

use super::handle::Store;
use super::open::{Access, Io, OpenOptions, Purpose, lock_out_readers, open_locked};
use super::rekeying::{WINDOW_BLOCKS, Window, readable};
use super::space::{end_with_reserve, reserve_of};
use super::superblock::header::{open_header, write_headers};
use super::writer::Writer;
use crate::crypto::{
    HeaderKey, KeyDerivation, KeyKind, MasterKey, SealJob, Sealer, Secret, wrap_master_key,
    wrap_old_key,
};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLANK_BLOCKS, BLOCK_SIZE, BLOCKS_MAX, BlockHead, DATA_SIZE, Data, Header, KeySlot, MetaSlot,
    Position, RESERVED_BLOCKS, Run, is_reserved,
};
use crate::parallel::in_pool;

/// Options for changing the master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RekeyOptions {
    /// Removes the other keys. Wrapping the new master key for them takes their secrets, so without this option an
    /// archive with other keys is refused.
    pub drop_other_keys: bool,
    /// Memory map or plain file.
    pub io: Io,
    /// How long to wait until no other process has the archive open.
    pub wait: Duration,
}

/// The result of a change of the master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RekeySummary {
    /// Number of blocks that this call sealed again.
    pub blocks: u64,
    /// Number of blocks that no longer opened under the old key, and were left unchanged.
    pub left: u64,
    /// Whether trimming the file failed. Blocks after the end of the archive may then still be sealed under the old
    /// key. The archive itself is entirely under the new one.
    pub trim_failed: bool,
}

fn bytes_of(run: Run) -> usize {
    usize::try_from(run.count()).expect("a window is small") * BLOCK_SIZE
}

impl Store {
    /// Changes the master key of the archive in a file, or resumes an interrupted change.
    ///
    /// No other process can use the archive meanwhile, not even for reading.
    ///
    /// The caller ensures that the archive has no redo list and that every free block opens. `progress` gets the
    /// number of blocks under the new key, and the number of all blocks. If it breaks, the call fails with
    /// [`Error::Stopped`], and the next call resumes the change. A break before the first block leaves the archive
    /// unchanged.
    pub fn rekey(
        path: &Path,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let mut rekey = || {
            let file = open_locked(path, options.wait)?;
            Store::rekey_device(options.io.device(file), secret, options, progress)
        };
        rekey().map_err(|error: Error| error.at_path(path))
    }

    /// Does the same on a device.
    pub fn rekey_device(
        device: Box<dyn Device>,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        lock_out_readers(&*device, options.wait)?;
        let opened = open_header(&*device, secret)?;
        let device = match opened.header.rekey {
            Some(_) => device,
            None => begin(device, secret, options, progress)?,
        };
        let writing = OpenOptions { access: Access::Write, ..OpenOptions::default() };
        let (_store, writer) = Store::open_for(device, None, secret, writing, Purpose::Rekey)?;
        writer.expect("opened for writing").rekey(progress)
    }

    /// Checks, before the first commit of a change of the master key, that the change can finish: there is no redo
    /// list, every block opens, and there is durable space for the shadow blocks.
    pub(super) fn check_can_rekey(&self, slot: &MetaSlot) -> Result<()> {
        if let Some(head) = slot.redo_head {
            let expected = "no redo list during a change of the master key";
            return Err(Error::damaged(head.position, Check::RedoList, expected, slot.redo_length));
        }
        self.check_every_block(slot.block_count)?;
        let full = Error::Full { what: "number of blocks", limit: BLOCKS_MAX.into() };
        let needed = slot.block_count.checked_add(2 * WINDOW_BLOCKS);
        let needed = needed.filter(|&needed| needed <= BLOCKS_MAX).ok_or(full)?;
        self.device.grow(needed)?;
        self.device.sync()
    }
}

/// Checks that every block opens, and writes the header with both master keys.
fn begin(
    device: Box<dyn Device>,
    secret: &Secret,
    options: RekeyOptions,
    progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
) -> Result<Box<dyn Device>> {
    let writing = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    let (store, writer) = Store::open_at(device, None, secret, writing)?;
    let writer = writer.expect("opened for writing");
    let (new, header) = writer.prepare_header(secret, options)?;
    if progress(0, store.current().slot.block_count).is_break() {
        return Err(Error::Stopped);
    }
    let bytes = header.encode(&HeaderKey::derive(&new, header.archive));
    // A crash after the first sync leaves a newer header, which the old master key also authenticates, and meta slots
    // under the old key. The next call then starts the change.
    write_headers(&*store.device, &bytes, store.current().slot.block_count)?;
    drop(writer);
    Ok(store.into_device().expect("no other handle of the store"))
}

impl Writer {
    /// Generates a new master key, and the header that wraps it, after checking that the change can finish.
    fn prepare_header(
        &self,
        secret: &Secret,
        options: RekeyOptions,
    ) -> Result<(MasterKey, Header)> {
        self.check_no_transaction()?;
        let store = &self.store;
        let slot = store.current().slot.clone();
        if slot.redo_head.is_some() {
            return Err(Error::Uncommitted);
        }
        let mut header = (*store.header()).clone();
        let used = header.slots.iter().filter(|slot| **slot != KeySlot::Empty).count();
        if used > 1 && !options.drop_other_keys {
            return Err(Error::OtherKeys { count: used - 1 });
        }
        store.check_can_rekey(&slot)?;
        let full = |what, limit: u32| Error::Full { what, limit: limit.into() };
        let number = slot.master_key_number.checked_add(1);
        let number = number.ok_or(full("number of master keys", u32::MAX))?;
        let revision = header.revision.checked_add(1);
        let limit = u64::MAX;
        header.revision = revision.ok_or(Error::Full { what: "revision of the header", limit })?;
        let new = MasterKey::generate()?;
        let mine = store.key_slot();
        let (derivation, label) = match &header.slots[mine] {
            KeySlot::Used(used) => {
                let derivation =
                    used.cost.map_or(Ok(KeyDerivation::default()), KeyDerivation::new)?;
                (derivation, used.label.to_string())
            }
            KeySlot::Empty => return Err(Error::NoKeySlot { number: mine }),
        };
        header.slots = std::array::from_fn(|_| KeySlot::Empty);
        header.slots[mine] =
            wrap_master_key(&new, secret, &derivation, header.archive, mine, &label)?;
        let mut rekey = wrap_old_key(&new, &self.master, header.archive, number)?;
        header.rekey = Some(rekey);
        rekey.code = header.rekey_code(&HeaderKey::derive(&self.master, header.archive));
        header.rekey = Some(rekey);
        Ok((new, header))
    }

    /// Seals the remaining windows under the new key, and drops the old key.
    fn rekey(
        mut self,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let store = Arc::clone(&self.store);
        let mut summary = RekeySummary::default();
        let count = store.current().slot.block_count;
        if store.current().slot.rekey_watermark > 0 {
            let old = store.sealer.old().ok_or(Error::RekeyInProgress)?;
            let wanted = count.saturating_add(2 * WINDOW_BLOCKS).min(BLOCKS_MAX);
            store.poisoning(store.device.grow(wanted))?;
            loop {
                let watermark = store.current().slot.rekey_watermark;
                if progress(watermark, count).is_break() {
                    return Err(Error::Stopped);
                }
                let Some(window) = Window::from(watermark, count) else { break };
                self.rekey_window(&old, window, &mut summary)?;
            }
            self.end_windows()?;
        }
        // This counts the lost blocks of all attempts, interrupted ones included: a block still under the old key is
        // lost now.
        summary.left = store.undecryptable_blocks(count, &store.sealer.new_alone())?;
        let mut header = (*store.header()).clone();
        header.rekey = None;
        // From here on, nothing in the file leads to the old key.
        self.replace_header(header)?;
        store.poisoning(store.device.sync())?;
        // The blocks behind the end are under the old key, or are shadow blocks. The change is committed, so a
        // failure to trim the file does not undo it.
        summary.trim_failed = store.device.shrink(count).is_err();
        if !summary.trim_failed {
            // If there is no space for the reserve, the next writer tries again.
            let reserve = reserve_of(&store.current().slot);
            let _ = store.device.grow(end_with_reserve(count, reserve));
        }
        Ok(summary)
    }

    fn rekey_window(
        &mut self,
        old: &Sealer,
        window: Window,
        summary: &mut RekeySummary,
    ) -> Result<()> {
        let store = Arc::clone(&self.store);
        let mut bytes = vec![0; bytes_of(window.homes)];
        let positions: Vec<Position> = window.homes.positions().collect();
        store.read_each(window.homes, &mut bytes);
        let blocks = bytes.as_chunks_mut::<BLOCK_SIZE>().0;
        let reseal = |(block, &position): (&mut [u8; BLOCK_SIZE], &Position)| {
            if is_reserved(position) {
                // Its copies are not data. An old header must not go behind the end either.
                block.fill(0);
                return Ok(false);
            }
            if store.sealer.reseal(old, position, block)? {
                return Ok(true);
            }
            // Before giving the block up, try once more from the file itself, not the map.
            let Some(again) = readable(&*store.device, position) else { return Ok(false) };
            *block = *again;
            store.sealer.reseal(old, position, block)
        };
        let sealed: Result<Vec<bool>> =
            in_pool(|| blocks.par_iter_mut().zip(&positions).map(reseal).collect());
        let sealed = sealed?;

        // The shadow blocks, and the home locations of the window before, must be durable before the slot says so.
        store.poisoning(store.device.write(window.shadows.start(), &bytes))?;
        if !crate::fault!(SkipRekeySync) {
            store.poisoning(store.device.sync())?;
        }
        self.commit_watermark(window.homes.end())?;

        let blocks = bytes.as_chunks::<BLOCK_SIZE>().0;
        for ((block, &position), &sealed) in blocks.iter().zip(&positions).zip(&sealed) {
            if sealed {
                store.poisoning(store.device.write(position, block))?;
                summary.blocks += 1;
            }
        }
        Ok(())
    }

    /// Seals the blank blocks too, once every window is home, and clears the watermark.
    fn end_windows(&mut self) -> Result<()> {
        let store = Arc::clone(&self.store);
        let data: Data = [0; DATA_SIZE];
        for position in BLANK_BLOCKS {
            let job = SealJob { position, head: BlockHead::default(), data: &data };
            let mut bytes = [0; BLOCK_SIZE];
            store.sealer.seal_batch(
                KeyKind::Data,
                self.transaction.generation(),
                &[job],
                &mut bytes,
            )?;
            store.poisoning(store.device.write(position, &bytes))?;
        }
        // The home locations of the last window must be durable before a slot stops pointing to its shadow blocks.
        store.poisoning(store.device.sync())?;
        self.commit_watermark(0)
    }

    fn commit_watermark(&mut self, watermark: u32) -> Result<()> {
        let current = self.store.current();
        let full = Error::Full { what: "number of commits", limit: u64::MAX };
        let number = current.slot.number.checked_add(1).ok_or(full)?;
        let slot = MetaSlot {
            generation: self.transaction.generation(),
            number,
            rekey_watermark: watermark,
            ..current.slot.clone()
        };
        self.write_slot(slot)?;
        self.transaction.raise_step()
    }
}

impl Store {
    /// Checks that every block opens. A block that does not open under the old key cannot be sealed under the new
    /// one. It is better to find it now than halfway.
    fn check_every_block(&self, block_count: u32) -> Result<()> {
        let mut first = None;
        self.each_undecryptable_block(block_count, &self.sealer, &mut |position| {
            first = first.or(Some(position));
        })?;
        match first {
            None => Ok(()),
            Some(position) => {
                let expected = "a block that its key opens";
                Err(Error::damaged(position, Check::Tag, expected, "another"))
            }
        }
    }

    /// Returns the number of blocks that do not open.
    fn undecryptable_blocks(&self, block_count: u32, sealer: &Sealer) -> Result<u64> {
        let mut count = 0;
        self.each_undecryptable_block(block_count, sealer, &mut |_| count += 1)?;
        Ok(count)
    }

    fn each_undecryptable_block(
        &self,
        block_count: u32,
        sealer: &Sealer,
        found: &mut dyn FnMut(Position),
    ) -> Result<()> {
        self.check_usable()?;
        let mut start = RESERVED_BLOCKS;
        while let Some(window) = Window::from(start, block_count) {
            let mut bytes = vec![0; bytes_of(window.homes)];
            self.read_each(window.homes, &mut bytes);
            let positions: Vec<Position> = window.homes.positions().collect();
            let blocks = bytes.as_chunks::<BLOCK_SIZE>().0;
            let each = || blocks.par_iter().zip(&positions);
            let is_undecryptable = |(block, position): &(&[u8; BLOCK_SIZE], &Position)| {
                !is_reserved(**position) && !sealer.opens(**position, block)
            };
            let undecryptable: Vec<Position> = in_pool(|| {
                each().filter(is_undecryptable).map(|(_, position)| *position).collect()
            });
            // Try once more from the file itself: the first read may have failed on the way.
            let opens = |position: &Position| {
                readable(&*self.device, *position)
                    .is_some_and(|bytes| sealer.opens(*position, &bytes))
            };
            undecryptable.into_iter().filter(|position| !opens(position)).for_each(&mut *found);
            start = window.homes.end();
        }
        Ok(())
    }

    /// Reads a run. An unreadable block becomes zeros, which open under no key.
    fn read_each(&self, run: Run, bytes: &mut [u8]) {
        if self.device.read(run.start(), bytes).is_ok() {
            return;
        }
        let (blocks, _) = bytes.as_chunks_mut::<BLOCK_SIZE>();
        for (position, block) in run.positions().zip(blocks) {
            match readable(&*self.device, position) {
                Some(read) => *block = *read,
                None => block.fill(0),
            }
        }
    }
}
