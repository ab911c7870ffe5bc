//! How far a change of the master key is, as the header and the meta slot say, and the window that follows from it.

use super::committed::Redirects;
use super::superblock::choose::Chosen;
use crate::crypto::{KeyKind, Sealer};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{BLOCK_SIZE, Generation, MetaSlot, Position, RESERVED_BLOCKS, Rekey, Run};

/// Blocks of a window: 1 MiB is sealed anew between two commits.
pub(super) const WINDOW_BLOCKS: u32 = 256;

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
pub(super) struct Window {
    pub(super) places: Run,
    pub(super) images: Run,
}

impl Window {
    /// The window from `start` on, a multiple of windows above the reserved blocks.
    pub(super) fn from(start: u32, block_count: u32) -> Option<Window> {
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
    pub(super) fn window(self) -> Option<Window> {
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

pub(super) fn pairs(window: Window) -> impl Iterator<Item = (Position, Position)> {
    window.places.positions().zip(window.images.positions())
}

/// A block, if it can be read.
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
    use crate::format::{BLOCKS_MAX, BlockRef};

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
