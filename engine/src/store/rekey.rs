//! Changing the master key: every block is sealed anew, in its place, under the same generation.
//!
//! The header comes first: its key slots hold the new master key from then on, and the new one opens the old. Then a
//! window of blocks at a time:
//!
//! 1. The new images are written behind the end of the archive. Sync: the images of this window, and the places of the
//!    window before, are durable.
//! 2. A meta slot names the new watermark, two copies as for any commit. From here on the window counts as sealed
//!    under the new key, and is read from behind the end: which window that is, and where its images lie, follows
//!    from the watermark alone.
//! 3. The images are copied to their places. The next window's images go elsewhere, so that a crash finds these.
//!
//! A crash in 1 leaves the old watermark and untouched places; in 2, one of the two; in 3, whole images behind the end,
//! which are copied again. In the end the watermark is given up, and then the old key, in a commit each.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::choose::Chosen;
use super::open::{Access, Io, OpenOptions, Purpose};
use super::slots::write_headers;
use super::{RESERVE_BLOCKS, Redirects, Store, Writer};
use crate::crypto::{
    HeaderKey, KeyDerivation, KeyKind, MasterKey, SealJob, Sealer, Secret, wrap_master_key,
    wrap_old_key,
};
use crate::device::{self, Device, FileDevice, MappedDevice};
use crate::error::{Check, Error, Result};
use crate::format::{
    BLANK_BLOCKS, BLOCK_SIZE, BLOCKS_MAX, BlockHead, DATA_SIZE, Data, Generation, Header, KeySlot,
    MetaSlot, Position, RESERVED_BLOCKS, Rekey, Run,
};
use crate::parallel::in_pool;

/// Blocks of a window: 1 MiB is sealed anew between two commits.
const WINDOW_BLOCKS: u32 = 256;

/// How the master key is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RekeyOptions {
    /// Removes the other keys. Nobody but their holders can wrap the new master key for them, so that otherwise
    /// an archive with other keys is refused.
    pub drop_other_keys: bool,
    /// Map or file.
    pub io: Io,
}

/// What a change of the master key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RekeySummary {
    /// Blocks that were sealed anew by this call.
    pub blocks: u64,
    /// Blocks that did not open under the old key any more, and were left as they are.
    pub left: u64,
    /// Whether the file could not be trimmed: blocks after its last block may then still be sealed under the old key. The
    /// archive is wholly under the new one.
    pub trim_failed: bool,
}

/// How far a change of the master key is, as header and meta slot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rekeying {
    /// None is under way.
    None,
    /// Blocks below the watermark are under the new key.
    UpTo { watermark: u32, block_count: u32 },
    /// Every block is under the new key; the header still names the old one.
    Done,
}

/// Blocks that are sealed anew together, and where their images lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    places: Run,
    images: Run,
}

impl Window {
    /// The window from `start` on, a multiple of windows above the reserved blocks.
    fn from(start: u32, block_count: u32) -> Option<Window> {
        let count = WINDOW_BLOCKS.min(block_count.checked_sub(start)?);
        // By turns in two places, so that the images of one window stay until the next is named.
        let turns = if crate::fault!(OneRekeyRegion) { 1 } else { 2 };
        let turn = (start - RESERVED_BLOCKS) / WINDOW_BLOCKS % turns;
        let images = Position::new(block_count.checked_add(turn * WINDOW_BLOCKS)?)?;
        Some(Window {
            places: Run::new(Position::new(start)?, count)?,
            images: Run::new(images, count)?,
        })
    }
}

impl Rekeying {
    /// What header and slot say together.
    pub(super) fn of(rekey: Option<&Rekey>, slot: &MetaSlot) -> Result<Rekeying> {
        let (found, block_count) = (slot.rekey_watermark, slot.block_count);
        let Some(rekey) = rekey else {
            if found != 0 {
                return Err(Error::damaged(None, Check::MetaSlot, "no change of keys", found));
            }
            return Ok(Rekeying::None);
        };
        if Some(slot.master_key_number) == rekey.number.checked_sub(1) && found == 0 {
            return Ok(Rekeying::UpTo { watermark: RESERVED_BLOCKS, block_count });
        }
        if slot.master_key_number != rekey.number {
            let (expected, found) = (rekey.number, slot.master_key_number);
            return Err(Error::damaged(None, Check::MetaSlot, expected, found));
        }
        let sealed = found.checked_sub(RESERVED_BLOCKS);
        let aligned = sealed.is_some_and(|blocks| blocks.is_multiple_of(WINDOW_BLOCKS));
        let aligned = aligned || found == block_count;
        match found {
            0 => Ok(Rekeying::Done),
            _ if aligned && found <= block_count && slot.redo_head.is_none() => {
                Ok(Rekeying::UpTo { watermark: found, block_count })
            }
            _ => Err(Error::damaged(None, Check::MetaSlot, block_count, found)),
        }
    }

    /// The first commit under the new master key.
    pub(super) fn begin(rekey: Option<&Rekey>, slot: &mut MetaSlot) {
        let Some(rekey) = rekey.filter(|rekey| rekey.number != slot.master_key_number) else {
            return;
        };
        slot.master_key_number = rekey.number;
        slot.rekey_watermark = RESERVED_BLOCKS;
    }

    /// Opens each block under the master key that it is under.
    pub(super) fn sealer(self, sealer: Sealer) -> Sealer {
        match (self, sealer.old()) {
            (Rekeying::UpTo { watermark, .. }, Some(old)) => sealer.with_old(&old, watermark),
            (Rekeying::Done, _) => sealer.new_alone(),
            _ => sealer,
        }
    }

    /// The window whose images are still needed.
    fn window(self) -> Option<Window> {
        let Rekeying::UpTo { watermark, block_count } = self else { return None };
        let windows = watermark.checked_sub(RESERVED_BLOCKS + 1)? / WINDOW_BLOCKS;
        Window::from(RESERVED_BLOCKS + windows * WINDOW_BLOCKS, block_count)
    }

    /// Where the blocks of the newest window are to be read, if not in their places. The generations are as found: a
    /// block is believed if it opens, for its place, in the generation that is asked for.
    pub(super) fn redirects(self, device: &dyn Device, sealer: &Sealer) -> Redirects {
        let mut redirects = Redirects::default();
        let Some(window) = self.window() else { return redirects };
        for (place, image) in pairs(window) {
            // One bad block, of either, loses nothing as long as the other is good.
            let opens = |at: Position| {
                let bytes = readable(device, at)?;
                sealer.opens(place, &bytes).then(|| Generation::decode(first_of(&bytes)))
            };
            if opens(place).is_none()
                && let Some(generation) = opens(image)
            {
                redirects.0.insert(place, (image, generation));
            }
        }
        redirects
    }

    /// A slot that has the number of the new master key was sealed under that: who knows the old one only, and has kept
    /// a header of this change, could make one otherwise.
    pub(super) fn check_slot(
        rekey: Option<&Rekey>,
        chosen: &Chosen,
        sealer: &Sealer,
    ) -> Result<()> {
        if rekey.is_none_or(|rekey| rekey.number != chosen.slot.master_key_number) {
            return Ok(());
        }
        let sealer = sealer.new_alone();
        for (position, sealed) in &chosen.good {
            let opened =
                sealer.open_in_place(KeyKind::Meta, *position, &mut sealed.clone()).map(drop);
            opened.map_err(|_| {
                let expected = "a meta slot under the new master key";
                Error::tampered(*position, Check::MetaSlot, expected, "one under the old")
            })?;
        }
        Ok(())
    }

    /// Whether the header names a new master key and nothing else was done yet.
    pub(super) fn has_not_begun(rekey: Option<&Rekey>, slot: &MetaSlot) -> bool {
        rekey.is_some_and(|rekey| rekey.number != slot.master_key_number)
    }
}

fn pairs(window: Window) -> impl Iterator<Item = (Position, Position)> {
    window.places.positions().zip(window.images.positions())
}

/// A block, if it can be read.
fn readable(device: &dyn Device, position: Position) -> Option<Box<[u8; BLOCK_SIZE]>> {
    let mut bytes = Box::new([0; BLOCK_SIZE]);
    device.read_direct(position, &mut bytes[..]).ok().map(|()| bytes)
}

fn first_of(bytes: &[u8; BLOCK_SIZE]) -> [u8; Generation::SIZE] {
    *bytes.first_chunk().expect("a block is longer than a generation")
}

fn bytes_of(run: Run) -> usize {
    usize::try_from(run.count()).expect("a window is small") * BLOCK_SIZE
}

impl Store {
    /// Changes the master key of the archive in a file, or goes on with a change that was cut off.
    ///
    /// The archive has neither a redo list nor free blocks that do not open: the layer above sees to that. `progress` is
    /// told how many blocks are under the new key, and how many there are. If it breaks, the change stops with
    /// [`Error::Stopped`], and the next call continues it; before the first block nothing has changed.
    pub fn rekey(
        path: &Path,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let mut rekey = || {
            let file = FileDevice::open(path, device::Access::ReadWrite)?;
            file.lock_exclusive()?;
            let device: Box<dyn Device> = match options.io {
                Io::File => Box::new(file),
                Io::Map => Box::new(MappedDevice::new(file)),
            };
            Store::rekey_device(device, secret, options, progress)
        };
        rekey().map_err(|error: Error| error.at_path(path))
    }

    /// The same on a device.
    pub fn rekey_device(
        device: Box<dyn Device>,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let opened = super::header::open_header(&*device, secret)?;
        let device = match opened.header.rekey {
            Some(_) => device,
            None => begin(device, secret, options, progress)?,
        };
        let writing = OpenOptions { access: Access::Write, ..OpenOptions::default() };
        let (_store, writer) = Store::open_for(device, None, secret, writing, Purpose::Rekey)?;
        writer.expect("opened for writing").rekey(progress)
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

    /// Makes sure that a change of the master key can be ended before its first commit: there is no redo list, every
    /// block opens, and there is room for the images, durably.
    pub(super) fn check_can_rekey(&self, slot: &MetaSlot) -> Result<()> {
        if let Some(head) = slot.redo_head {
            let expected = "no redo list while the master key is changed";
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

/// Checks that everything opens, and writes the header with both master keys.
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
    // A crash after the first sync leaves a newer header, which the old master key authenticates too, and meta
    // slots under the old key: a change that has not begun, which the next call begins.
    write_headers(&*store.device, &bytes)?;
    drop(writer);
    Ok(Arc::into_inner(store).expect("nobody else has the store").device)
}

impl Writer {
    /// A new master key, and the header that holds it, once it is sure that the change can be finished.
    fn prepare_header(
        &self,
        secret: &Secret,
        options: RekeyOptions,
    ) -> Result<(MasterKey, Header)> {
        self.check_nothing_under_way()?;
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

    /// Seals what is left under the new key, and gives up the old one.
    fn rekey(
        mut self,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let store = Arc::clone(&self.store);
        let mut summary = RekeySummary::default();
        let count = store.current().slot.block_count;
        if store.current().slot.rekey_watermark > 0 {
            let old = store.sealer.old().ok_or(Error::RekeyUnderWay)?;
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
        // Over all runs of a change that was cut off: what is left under the old key now is lost.
        summary.left = store.shut_blocks(count, &store.sealer.new_alone())?;
        let mut header = (*store.header()).clone();
        header.rekey = None;
        // From here on nothing in the file leads to the old key.
        self.replace_header(header)?;
        store.poisoning(store.device.sync())?;
        // What lies behind the end was sealed under the old key, or is an image. The change is committed: that the file
        // cannot be trimmed does not undo it.
        summary.trim_failed = store.device.shrink(count).is_err();
        if !summary.trim_failed {
            // If there is no room for the reserve, the next writer asks again.
            let _ = store.device.grow(count.saturating_add(RESERVE_BLOCKS).min(BLOCKS_MAX));
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
        let mut bytes = vec![0; bytes_of(window.places)];
        let positions: Vec<Position> = window.places.positions().collect();
        store.read_each(window.places, &mut bytes);
        let blocks = bytes.as_chunks_mut::<BLOCK_SIZE>().0;
        let reseal = |(block, &position): (&mut [u8; BLOCK_SIZE], &Position)| {
            if store.sealer.reseal(old, position, block)? {
                return Ok(true);
            }
            // Once more, from the file itself, before it is given up.
            let Some(again) = readable(&*store.device, position) else { return Ok(false) };
            *block = *again;
            store.sealer.reseal(old, position, block)
        };
        let sealed: Result<Vec<bool>> =
            in_pool(|| blocks.par_iter_mut().zip(&positions).map(reseal).collect());
        let sealed = sealed?;

        // The images, and the places of the window before, are durable before the slot says so.
        store.poisoning(store.device.write(window.images.start(), &bytes))?;
        if !crate::fault!(SkipRekeySync) {
            store.poisoning(store.device.sync())?;
        }
        self.commit_watermark(window.places.end())?;

        let blocks = bytes.as_chunks::<BLOCK_SIZE>().0;
        for ((block, &position), &sealed) in blocks.iter().zip(&positions).zip(&sealed) {
            if sealed {
                store.poisoning(store.device.write(position, block))?;
                summary.blocks += 1;
            }
        }
        Ok(())
    }

    /// Every block is in its place: the blanks too, and then the watermark is given up.
    fn end_windows(&mut self) -> Result<()> {
        let store = Arc::clone(&self.store);
        let data: Data = [0; DATA_SIZE];
        for position in BLANK_BLOCKS {
            let job = SealJob { position, head: BlockHead::default(), data: &data };
            let mut bytes = [0; BLOCK_SIZE];
            store.sealer.seal_batch(KeyKind::Data, self.generation, &[job], &mut bytes)?;
            store.poisoning(store.device.write(position, &bytes))?;
        }
        // Before the slot that drops the last window: its places must be durable, not only its images.
        store.poisoning(store.device.sync())?;
        self.commit_watermark(0)
    }

    fn commit_watermark(&mut self, watermark: u32) -> Result<()> {
        let current = self.store.current();
        let full = Error::Full { what: "number of commits", limit: u64::MAX };
        let number = current.slot.number.checked_add(1).ok_or(full)?;
        let slot = MetaSlot {
            generation: self.generation,
            number,
            rekey_watermark: watermark,
            ..current.slot.clone()
        };
        self.write_slot(slot, Redirects::default())?;
        self.raise_step()
    }
}

impl Store {
    /// Whether every block opens: what does not open under the old key cannot be sealed under the new one, and
    /// is better found before than half-way.
    fn check_every_block(&self, block_count: u32) -> Result<()> {
        let mut first = None;
        self.each_shut_block(block_count, &self.sealer, &mut |position| {
            first = first.or(Some(position));
        })?;
        match first {
            None => Ok(()),
            Some(position) => {
                let expected = "a block that opens, before every block is sealed anew";
                Err(Error::damaged(position, Check::Tag, expected, "another"))
            }
        }
    }

    /// Number of blocks that do not open.
    fn shut_blocks(&self, block_count: u32, sealer: &Sealer) -> Result<u64> {
        let mut count = 0;
        self.each_shut_block(block_count, sealer, &mut |_| count += 1)?;
        Ok(count)
    }

    fn each_shut_block(
        &self,
        block_count: u32,
        sealer: &Sealer,
        found: &mut dyn FnMut(Position),
    ) -> Result<()> {
        self.check_usable()?;
        let mut start = RESERVED_BLOCKS;
        while let Some(window) = Window::from(start, block_count) {
            let mut bytes = vec![0; bytes_of(window.places)];
            self.read_each(window.places, &mut bytes);
            let positions: Vec<Position> = window.places.positions().collect();
            let blocks = bytes.as_chunks::<BLOCK_SIZE>().0;
            let each = || blocks.par_iter().zip(&positions);
            let is_shut = |(block, position): &(&[u8; BLOCK_SIZE], &Position)| {
                !sealer.opens(**position, block)
            };
            let shut: Vec<Position> =
                in_pool(|| each().filter(is_shut).map(|(_, position)| *position).collect());
            // Once more, from the file itself: what was read may have been a fault of the way.
            let opens = |position: &Position| {
                readable(&*self.device, *position)
                    .is_some_and(|bytes| sealer.opens(*position, &bytes))
            };
            shut.into_iter().filter(|position| !opens(position)).for_each(&mut *found);
            start = window.places.end();
        }
        Ok(())
    }

    /// Reads a run; blocks that cannot be read are zeros, which open under no key.
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::format::BlockRef;

    const NUMBER: u32 = 4;

    fn record() -> Rekey {
        Rekey { number: NUMBER, nonce: [1; 24], wrapped: [2; 48], code: [3; 32] }
    }

    /// A slot under the master key of this number.
    fn slot(master_key_number: u32, rekey_watermark: u32, block_count: u32) -> MetaSlot {
        let slot = MetaSlot::first(Generation::default(), 0, [0; 32]);
        MetaSlot { block_count, master_key_number, rekey_watermark, ..slot }
    }

    fn run(start: u32, count: u32) -> Option<Run> {
        Run::new(Position::at(start), count)
    }

    #[test]
    fn images_of_windows_lie_behind_the_end_by_turns() {
        let window = |start: u32, count: u32| {
            let window = Window::from(start, count)?;
            Some((window.places, window.images))
        };
        let pair = |places: Option<Run>, images: Option<Run>| places.zip(images);
        assert_eq!(window(8, 1000), pair(run(8, 256), run(1000, 256)));
        assert_eq!(window(264, 1000), pair(run(264, 256), run(1256, 256)));
        assert_eq!(window(520, 1000), pair(run(520, 256), run(1000, 256)));
        // The last is as long as what is left.
        assert_eq!(window(776, 1000), pair(run(776, 224), run(1256, 224)));
        assert_eq!(window(1000, 1000), None);
        assert_eq!(window(1032, 1000), None);
        assert_eq!(window(8, BLOCKS_MAX), None, "no room behind the end");
    }

    #[test]
    fn header_and_slot_say_together_how_far_a_change_is() {
        let of = |number, watermark, count| {
            Rekeying::of(Some(&record()), &slot(number, watermark, count)).ok()
        };
        let up_to = |watermark, block_count| Some(Rekeying::UpTo { watermark, block_count });
        assert_eq!(of(NUMBER - 1, 0, 1000), up_to(RESERVED_BLOCKS, 1000), "not begun");
        assert_eq!(of(NUMBER, 0, 1000), Some(Rekeying::Done));
        for watermark in [8, 264, 520, 776, 1000] {
            assert_eq!(of(NUMBER, watermark, 1000), up_to(watermark, 1000));
        }
        // Within a window, among the reserved blocks, and beyond the end.
        for watermark in [7, 9, 265, 999, 1001, 1032] {
            assert_eq!(of(NUMBER, watermark, 1000), None, "{watermark}");
        }
        for (number, watermark) in [(NUMBER - 1, 8), (NUMBER - 2, 0), (NUMBER + 1, 0)] {
            assert_eq!(of(number, watermark, 1000), None, "{number} {watermark}");
        }
        let position = Position::at(9);
        let head = Some(BlockRef { position, generation: Generation::default() });
        let listed = MetaSlot { redo_head: head, redo_length: 1, ..slot(NUMBER, 264, 1000) };
        assert!(Rekeying::of(Some(&record()), &listed).is_err(), "a redo list meanwhile");
        assert_eq!(Rekeying::of(None, &slot(1, 0, 1000)).unwrap(), Rekeying::None);
        assert!(Rekeying::of(None, &slot(1, 8, 1000)).is_err(), "no change of keys");
    }

    #[test]
    fn a_change_begins_once() {
        let mut begun = slot(NUMBER - 1, 0, 1000);
        assert!(Rekeying::has_not_begun(Some(&record()), &begun));
        Rekeying::begin(Some(&record()), &mut begun);
        assert_eq!((begun.master_key_number, begun.rekey_watermark), (NUMBER, RESERVED_BLOCKS));
        assert!(!Rekeying::has_not_begun(Some(&record()), &begun));
        let mut later = slot(NUMBER, 264, 1000);
        Rekeying::begin(Some(&record()), &mut later);
        assert_eq!(later, slot(NUMBER, 264, 1000));
        Rekeying::begin(None, &mut later);
        assert_eq!(later, slot(NUMBER, 264, 1000));
        assert!(!Rekeying::has_not_begun(None, &later));
    }

    #[test]
    fn the_window_below_the_watermark_still_needs_its_images() {
        let window = |watermark, block_count| {
            let window = Rekeying::UpTo { watermark, block_count }.window()?;
            Some((window.places, window.images))
        };
        assert_eq!(window(RESERVED_BLOCKS, 1000), None);
        assert_eq!(window(264, 1000), run(8, 256).zip(run(1000, 256)));
        assert_eq!(window(520, 1000), run(264, 256).zip(run(1256, 256)));
        assert_eq!(window(1000, 1000), run(776, 224).zip(run(1256, 224)));
        assert!(Rekeying::Done.window().is_none() && Rekeying::None.window().is_none());
    }

    #[test]
    fn each_state_has_the_keys_that_it_needs() {
        let key = |byte| Sealer::new(&MasterKey::from_bytes([byte; 32]), Uuid::nil());
        let both = || key(1).with_old(&key(2), RESERVED_BLOCKS);
        assert!(Rekeying::Done.sealer(both()).old().is_none());
        let up_to = Rekeying::UpTo { watermark: 264, block_count: 1000 };
        assert!(up_to.sealer(both()).old().is_some());
        assert!(Rekeying::None.sealer(key(1)).old().is_none());
    }
}
