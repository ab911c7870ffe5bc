//! The decoded golden archives. Their content is the same in every process, so an input alone reproduces a finding. One
//! more archive is grown from them, with structures too large for the tree.

use std::sync::OnceLock;

use ar7_engine::crypto::{KeyKind, MasterKey, RawKey, Secret, unwrap_master_key};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{
    BLOCK_SIZE, DATA_SIZE, Generation, Position, REDO_PER_BLOCK, Timestamp, UncheckedHeader,
    is_reserved, plain, redo_block, redo_entry,
};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::records::InodeNumber;
use ar7_registry::tree::page_layout;
use ar7_registry::{Archive, Result};

use crate::reference::{KINDS, Keys, Plain, Sealed, generation};

/// The key of every golden archive except one.
const RAW_KEY: &[u8; 32] = include_bytes!("../../docs/vectors/golden/key");

const FILES: [&[u8]; 4] = [
    include_bytes!("../../docs/vectors/golden/dynamic.ar7"),
    include_bytes!("../../docs/vectors/golden/killed.ar7"),
    include_bytes!("../../docs/vectors/golden/fixed.ar7"),
    include_bytes!("../../docs/vectors/golden/single.ar7"),
];

/// Length of a packed file that is deleted in the crowded archive: it has more frames than the commit of the deletion, and
/// the one that moves content afterwards, free.
pub(crate) const DEAD_SLICE_BYTES: usize = 26 << 20;

/// Number of one-block streams in the crowded archive. There are more than one page can hold. Deleting every second one
/// leaves more free runs than a meta slot can hold.
const SMALL_STREAMS: usize = 80;

/// Number of blocks, and of extents, of its pending deletion: more than one commit frees.
const PENDING_DELETION_BLOCKS: usize = 140;

/// Number of blocks of its overwritten stream: more than one block of the redo list can hold.
const OVERWRITTEN_BLOCKS: usize = REDO_PER_BLOCK + 2;

/// A golden archive.
pub(crate) struct Golden {
    /// The whole file.
    pub(crate) bytes: &'static [u8],
    pub(crate) keys: Keys,
    pub(crate) master: MasterKey,
    /// Every block from position 1 on that opens.
    pub(crate) blocks: Vec<OpenedBlock>,
}

/// A block of a golden archive.
#[derive(Clone)]
pub(crate) struct OpenedBlock {
    /// The position at which it is stored.
    pub(crate) position: Position,
    /// The position for which it is sealed, which differs for a shadow block.
    pub(crate) place: Position,
    pub(crate) kind: KeyKind,
    pub(crate) generation: Generation,
    pub(crate) plaintext: Box<Plain>,
}

/// The kind of a block, used to choose every kind often enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Slot,
    Redo,
    Page,
    Data,
}

/// Returns the secret that opens every golden archive here.
pub(crate) fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes(*RAW_KEY))
}

/// Returns the golden archives: a dynamic one, one whose writer was killed, a fixed one and a single one.
pub(crate) fn goldens() -> &'static [Golden] {
    static GOLDENS: OnceLock<Vec<Golden>> = OnceLock::new();
    GOLDENS.get_or_init(|| FILES.into_iter().map(Golden::open).collect())
}

/// Returns the crowded dynamic archive: every tree has entries and one tree has two levels. Its writer was killed while
/// a deletion was pending and the redo list needed two blocks. Its random bytes differ between processes; its layout
/// does not.
pub(crate) fn crowded() -> &'static Golden {
    static CROWDED: OnceLock<Golden> = OnceLock::new();
    CROWDED.get_or_init(|| {
        let bytes = crowd(goldens()[0].bytes).expect("an archive can be written");
        Golden::open(bytes.leak())
    })
}

/// Opens an archive of these bytes for writing. Returns it with its device.
pub(crate) fn open_to_write(bytes: &[u8]) -> Result<(MemoryDevice, Archive)> {
    let device = MemoryDevice::from_bytes(bytes);
    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    let archive = Archive::open_device(Box::new(device.clone()), &secret(), options)?;
    Ok((device, archive))
}

fn crowd(bytes: &[u8]) -> Result<Vec<u8>> {
    let (device, archive) = open_to_write(bytes)?;
    archive.set_time_of_identities(time_after(archive.created_at()))?;
    let with_blocks = |count: usize| {
        let mut stream = archive.new_stream()?;
        stream.append(&vec![1; count * DATA_SIZE])?;
        Ok::<_, ar7_registry::Error>(stream)
    };
    let mut small = Vec::new();
    for _ in 0..SMALL_STREAMS {
        let stream = with_blocks(1)?;
        small.push(stream.identity());
        stream.close()?;
    }
    let names = archive.names();
    let root = InodeNumber::ROOT;
    let mut packed = names.begin_packed(None)?;
    names.append_packed(&mut packed, &vec![0; DEAD_SLICE_BYTES])?;
    let attributes = names.inode(root)?.expect("the root").attributes;
    names.add_packed(root, b"dead", attributes, packed)?;
    let (mut deleted, mut overwritten) =
        (with_blocks(PENDING_DELETION_BLOCKS)?, with_blocks(OVERWRITTEN_BLOCKS)?);
    archive.commit()?;
    // Overwriting every second block gives neighbours different generations, so each block becomes an extent.
    for block in (0..PENDING_DELETION_BLOCKS).step_by(2) {
        let offset = u64::try_from(block * DATA_SIZE).expect("a small length");
        deleted.write_at(offset, &[2; DATA_SIZE])?;
    }
    archive.commit()?;
    let deleted_identity = deleted.identity();
    deleted.close()?;
    archive.delete_stream(deleted_identity)?;
    overwritten.write_at(0, &vec![3; OVERWRITTEN_BLOCKS * DATA_SIZE])?;
    overwritten.close()?;
    // Delete last, otherwise the overwrites would go to the freed blocks.
    for &identity in small.iter().step_by(2) {
        archive.delete_stream(identity)?;
    }
    archive.names().remove(root, b"dead")?;
    archive.commit()?;
    Ok(device.to_bytes())
}

/// Returns the next time, in milliseconds since 1970, whose lower 16 bits are zeros. Identities of the minute that begins
/// then have the same upper 32 of 48 bits.
fn time_after(time: Timestamp) -> u64 {
    let milliseconds = u64::try_from(time.seconds).expect("after 1970") * 1000;
    ((milliseconds >> 16) + 1) << 16
}

impl Golden {
    fn open(bytes: &'static [u8]) -> Golden {
        let (sealed, _) = bytes.as_chunks::<BLOCK_SIZE>();
        let keys = Keys::of_header(&sealed[0], RAW_KEY).expect("the key opens a slot");
        let header = UncheckedHeader::parse(Position::at(0), &sealed[0]).expect("a good header");
        let unwrapped = unwrap_master_key(header.slots(), &secret(), header.archive());
        let (master, _) = unwrapped.expect("the key opens a slot");
        let mut blocks = Vec::new();
        for (position, block) in (0..).map(Position::at).zip(sealed) {
            let opened = KINDS.iter().find_map(|&kind| {
                keys.open(kind, position, block).map(|plaintext| (kind, plaintext))
            });
            if let Some((kind, plaintext)) = opened {
                blocks.push(OpenedBlock {
                    position,
                    place: position,
                    kind,
                    generation: generation(block),
                    plaintext: Box::new(plaintext),
                });
            }
        }
        let mut golden = Golden { bytes, keys, master, blocks };
        golden.open_shadow_blocks(sealed);
        golden
    }

    /// Opens the shadow blocks, for the home locations that the redo list gives them.
    fn open_shadow_blocks(&mut self, sealed: &[Sealed]) {
        let entries: Vec<(u32, u32)> = self.of_part(Part::Redo).flat_map(redo_entries).collect();
        for (place, spare) in entries {
            let (place, position) = (Position::at(place), Position::at(spare));
            let block = &sealed[usize::try_from(spare).expect("a small archive")];
            let Some(plaintext) = self.keys.open(KeyKind::Data, place, block) else { continue };
            let (kind, generation) = (KeyKind::Data, generation(block));
            let plaintext = Box::new(plaintext);
            self.blocks.push(OpenedBlock { position, place, kind, generation, plaintext });
        }
    }

    /// Returns the blocks of this kind of part.
    pub(crate) fn of_part(&self, part: Part) -> impl Iterator<Item = &OpenedBlock> {
        self.blocks.iter().filter(move |block| block.part() == part)
    }

    /// Returns the header.
    pub(crate) fn header(&self) -> Sealed {
        *self.bytes.first_chunk().expect("longer than a block")
    }
}

impl OpenedBlock {
    /// Returns which part of the archive the block is.
    pub(crate) fn part(&self) -> Part {
        match self.kind {
            KeyKind::Meta if is_reserved(self.position) => Part::Slot,
            KeyKind::Meta => Part::Redo,
            KeyKind::Registry => Part::Page,
            KeyKind::Data => Part::Data,
        }
    }

    /// Returns the data.
    pub(crate) fn data(&self) -> &[u8] {
        plain::DATA.of(&self.plaintext[..])
    }

    /// Returns the offset and length in the data of each cell of a page, including the length of the rest of its key.
    pub(crate) fn cells(&self) -> Vec<(usize, usize)> {
        let data = self.data();
        let count = usize::from(page_layout::COUNT.u16(data));
        let mut end = data.len() - usize::from(page_layout::PREFIX.of(data)[0]);
        let mut cells = Vec::new();
        for at in (0..count).map(|cell| page_layout::BODY.offset + 2 * cell) {
            let Some(&[high, low]) = data.get(at..at + 2) else { break };
            let begin = usize::from(u16::from_be_bytes([high, low]));
            if begin >= end {
                break;
            }
            cells.push((begin, end - begin));
            end = begin;
        }
        cells
    }
}

/// Returns the home location and shadow block of each entry of a block of the redo list. No golden archive has an entry
/// that removes a home location.
pub(crate) fn redo_entries(block: &OpenedBlock) -> Vec<(u32, u32)> {
    let data = block.data();
    let count = usize::from(redo_block::COUNT.u16(data));
    let entries = redo_block::ENTRIES.of(data).chunks_exact(redo_entry::SIZE).take(count);
    entries.map(|entry| (redo_entry::HOME.u32(entry), shadow_of(entry))).collect()
}

/// Returns the position in a reference to a shadow block. An edit may have made it one that no reference can have.
fn shadow_of(entry: &[u8]) -> u32 {
    let reference = redo_entry::SHADOW.of(entry);
    reference.first_chunk().copied().map_or(u32::MAX, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::{MetaSlot, RedoBlock};
    use ar7_registry::records::TreeId;

    use super::*;

    /// Returns the slot of the commit at which the archive opens.
    fn newest_slot(golden: &Golden) -> MetaSlot {
        let slots = golden.of_part(Part::Slot).map(|block| {
            let data = block.data().try_into().expect("the data of a block");
            MetaSlot::decode(block.position, block.generation, data).expect("a good slot")
        });
        slots.max_by_key(|slot| slot.number).expect("four slots")
    }

    #[test]
    fn every_part_occurs() {
        for (number, golden) in goldens().iter().enumerate() {
            let count = |part| golden.of_part(part).count();
            assert_eq!(count(Part::Slot), 4, "archive {number}");
            assert!(count(Part::Page) > 0 && count(Part::Data) > 2, "archive {number}");
            let pages = golden.of_part(Part::Page);
            assert!(pages.map(|page| page.cells().len()).sum::<usize>() > 0);
        }
        let killed = &goldens()[1];
        assert!(killed.of_part(Part::Redo).count() > 0, "the killed one has a redo list");
        let moved = killed.blocks.iter().filter(|block| block.place != block.position);
        assert!(moved.count() > 0, "and shadow blocks");
    }

    #[test]
    fn the_crowded_archive_has_entries_in_every_tree_two_levels_and_a_chain() {
        let slot = newest_slot(crowded());
        let is_empty = |tree: &TreeId| slot.roots[tree.index()].block.is_none();
        let without: Vec<TreeId> = TreeId::ALL.into_iter().filter(is_empty).collect();
        assert_eq!(without, [], "trees without entries");
        let levels = crowded().of_part(Part::Page);
        assert!(levels.map(|page| page_layout::LEVEL.of(page.data())[0]).max() >= Some(1));
        let head = slot.redo_head.expect("a redo list");
        let first = crowded().of_part(Part::Redo).find(|block| block.position == head.position);
        let first = first.expect("its first block").data().try_into().expect("the data of a block");
        let first =
            RedoBlock::decode(head.position, first, slot.block_count).expect("a good block");
        let next = first.next.expect("a second block").position;
        assert!(crowded().of_part(Part::Redo).any(|block| block.position == next));
        assert!(usize::try_from(slot.redo_length).unwrap() > REDO_PER_BLOCK);
    }

    #[test]
    fn resealing_changes_nothing() {
        let golden = &goldens()[0];
        for block in &golden.blocks {
            let at = usize::try_from(block.position.offset()).unwrap();
            let before: &Sealed = golden.bytes[at..].first_chunk().unwrap();
            let nonce = before.first_chunk().unwrap();
            let again = golden.keys.seal(block.kind, block.place, nonce, &block.plaintext);
            assert!(again == *before, "block {}", block.position);
        }
        let mut header = golden.header();
        golden.keys.finish_header(&mut header);
        assert!(header == golden.header());
    }
}
