//! The progress of a change of the master key, as the header and the meta slot record it, and the current window.

use super::committed::Redirects;
use super::superblock::choose::Chosen;
use crate::crypto::{KeyKind, Sealer};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, BlockRef, Generation, MetaSlot, Position, RESERVED_BLOCKS, Rekey, Run, is_reserved,
};

/// Blocks of a window: 1 MiB is sealed again between two commits.
pub(super) const WINDOW_BLOCKS: u32 = 256;

/// The progress of a change of the master key, as the header and the meta slot record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rekeying {
    /// No change is in progress.
    None,
    /// Blocks below the watermark are under the new key.
    UpTo { watermark: u32, block_count: u32 },
    /// Every block is under the new key; the header still names the old one.
    Done,
}

/// Blocks that are sealed again together: their home locations and their shadow blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) homes: Run,
    pub(super) shadows: Run,
}

impl Window {
    /// Returns the window at `start`, which is a whole number of windows above the reserved blocks.
    pub(super) fn from(start: u32, block_count: u32) -> Option<Window> {
        let count = WINDOW_BLOCKS.min(block_count.checked_sub(start)?);
        // The shadow blocks alternate between two regions, so that those of one window survive until the next is
        // committed.
        let turns = if crate::fault!(OneRekeyRegion) { 1 } else { 2 };
        let turn = (start - RESERVED_BLOCKS) / WINDOW_BLOCKS % turns;
        let shadows = Position::new(block_count.checked_add(turn * WINDOW_BLOCKS)?)?;
        Some(Window {
            homes: Run::new(Position::new(start)?, count)?,
            shadows: Run::new(shadows, count)?,
        })
    }
}

impl Rekeying {
    /// Derives the progress from the record in the header and the current meta slot.
    pub(super) fn of(rekey: Option<&Rekey>, slot: &MetaSlot) -> Result<Rekeying> {
        let (found, block_count) = (slot.rekey_watermark, slot.block_count);
        let Some(rekey) = rekey else {
            if found != 0 {
                return Err(Error::damaged(
                    None,
                    Check::MetaSlot,
                    "watermark 0 without a rekey",
                    found,
                ));
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

    /// Turns `slot` into the first commit under the new master key, if the change has not begun.
    pub(super) fn begin(rekey: Option<&Rekey>, slot: &mut MetaSlot) {
        let Some(rekey) = rekey.filter(|rekey| rekey.number != slot.master_key_number) else {
            return;
        };
        slot.master_key_number = rekey.number;
        slot.rekey_watermark = RESERVED_BLOCKS;
    }

    /// Returns a sealer that opens each block under its own master key, old or new.
    pub(super) fn sealer(self, sealer: Sealer) -> Sealer {
        match (self, sealer.old()) {
            (Rekeying::UpTo { watermark, .. }, Some(old)) => sealer.with_old(&old, watermark),
            (Rekeying::Done, _) => sealer.new_alone(),
            _ => sealer,
        }
    }

    /// Returns the window whose shadow blocks are still needed.
    pub(super) fn window(self) -> Option<Window> {
        let Rekeying::UpTo { watermark, block_count } = self else { return None };
        let windows = watermark.checked_sub(RESERVED_BLOCKS + 1)? / WINDOW_BLOCKS;
        Window::from(RESERVED_BLOCKS + windows * WINDOW_BLOCKS, block_count)
    }

    /// Returns the blocks of the newest window that must be read from their shadow blocks. The generations are those
    /// found on disk, unchecked: a read accepts a block only if it opens for its home location, in the generation
    /// that the reference names.
    pub(super) fn redirects(self, device: &dyn Device, sealer: &Sealer) -> Redirects {
        let mut redirects = Redirects::default();
        let Some(window) = self.window() else { return redirects };
        for (home, shadow) in pairs(window) {
            // If one of the two copies is bad, nothing is lost as long as the other is good.
            let opens = |at: Position| {
                let bytes = readable(device, at)?;
                sealer.opens(home, &bytes).then(|| Generation::decode(first_of(&bytes)))
            };
            if opens(home).is_none()
                && let Some(generation) = opens(shadow)
            {
                redirects.shadows.insert(home, BlockRef { position: shadow, generation });
            }
        }
        redirects
    }

    /// Checks that a slot with the number of the new master key is sealed under that key. Otherwise someone who has
    /// only the old key, and kept a header of this change, could forge one.
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

    /// Returns whether the header names a new master key, and no meta slot is under it yet.
    pub(super) fn has_not_begun(rekey: Option<&Rekey>, slot: &MetaSlot) -> bool {
        rekey.is_some_and(|rekey| rekey.number != slot.master_key_number)
    }
}

/// Returns the window whose shadow blocks are still needed according to a meta slot, which may be an older one.
pub(super) fn window_of(rekey: Option<&Rekey>, slot: &MetaSlot) -> Option<Window> {
    Rekeying::of(rekey, slot).ok()?.window()
}

/// Returns the blocks of a window that are sealed again: home locations and shadow blocks.
pub(super) fn pairs(window: Window) -> impl Iterator<Item = (Position, Position)> {
    let all = window.homes.positions().zip(window.shadows.positions());
    all.filter(|(home, _)| !is_reserved(*home))
}

/// Reads a block past the memory map. Returns `None` if it is unreadable.
pub(super) fn readable(device: &dyn Device, position: Position) -> Option<Box<[u8; BLOCK_SIZE]>> {
    let mut bytes = Box::new([0; BLOCK_SIZE]);
    device.read_direct(position, &mut bytes[..]).ok().map(|()| bytes)
}

fn first_of(bytes: &[u8; BLOCK_SIZE]) -> [u8; Generation::SIZE] {
    *bytes.first_chunk().expect("a block is longer than a generation")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::crypto::MasterKey;
    use crate::format::{BLOCKS_MAX, DoubledRef};

    const NUMBER: u32 = 4;

    fn record() -> Rekey {
        Rekey { number: NUMBER, nonce: [1; 24], wrapped: [2; 48], code: [3; 32] }
    }

    /// A slot under the master key with this number.
    fn slot(master_key_number: u32, rekey_watermark: u32, block_count: u32) -> MetaSlot {
        let slot = MetaSlot::first(Generation::default(), 0, [0; 32]);
        MetaSlot { block_count, master_key_number, rekey_watermark, ..slot }
    }

    fn run(start: u32, count: u32) -> Option<Run> {
        Run::new(Position::at(start), count)
    }

    #[test]
    fn shadow_blocks_of_windows_alternate_between_two_regions_behind_the_end() {
        let window = |start: u32, count: u32| {
            let window = Window::from(start, count)?;
            Some((window.homes, window.shadows))
        };
        let pair = |homes: Option<Run>, shadows: Option<Run>| homes.zip(shadows);
        assert_eq!(window(8, 1000), pair(run(8, 256), run(1000, 256)));
        assert_eq!(window(264, 1000), pair(run(264, 256), run(1256, 256)));
        assert_eq!(window(520, 1000), pair(run(520, 256), run(1000, 256)));
        // The last window is as long as the rest of the archive.
        assert_eq!(window(776, 1000), pair(run(776, 224), run(1256, 224)));
        assert_eq!(window(1000, 1000), None);
        assert_eq!(window(1032, 1000), None);
        assert_eq!(window(8, BLOCKS_MAX), None, "no space behind the end");
    }

    #[test]
    fn header_and_slot_together_give_the_progress_of_a_rekey() {
        let of = |number, watermark, count| {
            Rekeying::of(Some(&record()), &slot(number, watermark, count)).ok()
        };
        let up_to = |watermark, block_count| Some(Rekeying::UpTo { watermark, block_count });
        assert_eq!(of(NUMBER - 1, 0, 1000), up_to(RESERVED_BLOCKS, 1000), "not begun");
        assert_eq!(of(NUMBER, 0, 1000), Some(Rekeying::Done));
        for watermark in [8, 264, 520, 776, 1000] {
            assert_eq!(of(NUMBER, watermark, 1000), up_to(watermark, 1000));
        }
        // Watermarks inside a window, among the reserved blocks, and past the end.
        for watermark in [7, 9, 265, 999, 1001, 1032] {
            assert_eq!(of(NUMBER, watermark, 1000), None, "{watermark}");
        }
        for (number, watermark) in [(NUMBER - 1, 8), (NUMBER - 2, 0), (NUMBER + 1, 0)] {
            assert_eq!(of(number, watermark, 1000), None, "{number} {watermark}");
        }
        let (position, copy) = (Position::at(9), Position::at(10));
        let head = Some(DoubledRef { position, copy, generation: Generation::default() });
        let listed = MetaSlot { redo_head: head, redo_length: 1, ..slot(NUMBER, 264, 1000) };
        assert!(Rekeying::of(Some(&record()), &listed).is_err(), "a redo list during a rekey");
        assert_eq!(Rekeying::of(None, &slot(1, 0, 1000)).unwrap(), Rekeying::None);
        assert!(Rekeying::of(None, &slot(1, 8, 1000)).is_err(), "no rekey is in progress");
    }

    #[test]
    fn a_rekey_begins_once() {
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
    fn the_window_below_the_watermark_still_needs_its_shadow_blocks() {
        let window = |watermark, block_count| {
            let window = Rekeying::UpTo { watermark, block_count }.window()?;
            Some((window.homes, window.shadows))
        };
        assert_eq!(window(RESERVED_BLOCKS, 1000), None);
        assert_eq!(window(264, 1000), run(8, 256).zip(run(1000, 256)));
        assert_eq!(window(520, 1000), run(264, 256).zip(run(1256, 256)));
        assert_eq!(window(1000, 1000), run(776, 224).zip(run(1256, 224)));
        assert!(Rekeying::Done.window().is_none() && Rekeying::None.window().is_none());
    }

    #[test]
    fn each_state_of_a_rekey_has_the_keys_that_it_needs() {
        let key = |byte| Sealer::new(&MasterKey::from_bytes([byte; 32]), Uuid::nil());
        let both = || key(1).with_old(&key(2), RESERVED_BLOCKS);
        assert!(Rekeying::Done.sealer(both()).old().is_none());
        let up_to = Rekeying::UpTo { watermark: 264, block_count: 1000 };
        assert!(up_to.sealer(both()).old().is_some());
        assert!(Rekeying::None.sealer(key(1)).old().is_none());
    }
}
