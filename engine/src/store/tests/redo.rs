//! Redo lists that somebody with the keys could write: none of them is believed.

use super::*;
use crate::error::Check;
use crate::format::{Generation, REDO_STREAM, RedoEntry, Run, encode_redo};
use crate::store::redo::WrittenRedoList;

/// An archive of some blocks, and the parts of a redo list.
struct World {
    device: MemoryDevice,
    writer: Writer,
    /// Live blocks.
    places: Vec<Position>,
    /// Positions for images and for the list.
    free: Vec<Position>,
}

fn world() -> World {
    let (device, _, mut writer) = create();
    let mut places = Vec::new();
    for byte in 1..=3 {
        places.push(add_block(&mut writer, KeyKind::Data, byte).unwrap().position);
    }
    commit(&mut writer, 1).unwrap();
    let free = writer.allocate_all(8, Urgency::Ordinary).unwrap();
    World { device, writer, places, free }
}

impl World {
    fn entry(&self, place: usize, spare: usize) -> RedoEntry {
        let generation = Generation { session: 1, step: 1, salt: 1 };
        RedoEntry { home: self.places[place], shadow: self.free[spare], generation }
    }

    /// Commits a list of one block, and opens the archive.
    fn open(mut self, entries: &[RedoEntry], length: u32, head: BlockHead) -> Result<Arc<Store>> {
        let data = encode_redo(entries);
        let position = self.free[7];
        let job = SealJob { position, head, data: &data };
        let generation = self.writer.write_fresh(KeyKind::Meta, &[job])?;
        let slot = self.writer.store().current().slot.clone();
        self.writer.commit(SlotUpdate {
            roots: slot.roots,
            inline_free: slot.inline_free,
            reserved_streams: slot.reserved_streams,
            counters: slot.counters,
            metadata: slot.metadata,
            sessions_recorded: false,
            redo: WrittenRedoList { head: Some(BlockRef { position, generation }), length },
        })?;
        drop(self.writer);
        try_open(&self.device, Access::Read).map(|(store, _)| store)
    }
}

fn head() -> BlockHead {
    BlockHead { stream: REDO_STREAM, ..BlockHead::default() }
}

#[track_caller]
fn assert_refused(outcome: Result<Arc<Store>>, check: Check) {
    match outcome {
        Err(Error::Damaged(fault) | Error::Tampered(fault)) => assert_eq!(fault.check, check),
        other => panic!("expected {check:?} to fail, found {other:?}"),
    }
}

#[test]
fn a_list_as_a_writer_makes_it_is_believed() {
    let world = world();
    let entries = [world.entry(0, 0), world.entry(1, 1)];
    let spares: Vec<Position> = vec![world.free[0], world.free[1], world.free[7]];
    let store = world.open(&entries, 2, head()).unwrap();
    assert_eq!(store.recovery().redo_blocks, 2);
    let listed = store.redo_blocks(&store.current()).unwrap();
    assert_eq!(listed, spares.into_iter().map(Run::single).collect());
}

#[test]
fn lists_are_as_long_as_the_slot_says() {
    for length in [1, 3] {
        let world = world();
        let entries = [world.entry(0, 0), world.entry(1, 1)];
        assert_refused(world.open(&entries, length, head()), Check::RedoList);
    }
    // A chain that goes on behind its end, and one that ends too early.
    let world = self::world();
    let (entries, next) = ([world.entry(0, 0)], Some(world.free[6]));
    assert_refused(world.open(&entries, 1, BlockHead { next, ..head() }), Check::RedoList);
    let world = self::world();
    let entries: Vec<RedoEntry> = (0..2).map(|at| world.entry(at, at)).collect();
    assert_refused(world.open(&entries, 201, head()), Check::RedoList);
}

#[test]
fn blocks_of_a_list_have_their_stream_place_and_link() {
    let hostile = [
        (BlockHead::default(), Check::Stream),
        (BlockHead { index: crate::format::BlockIndex(1), ..head() }, Check::Index),
        (BlockHead { previous: Some(Position::at(9)), ..head() }, Check::PreviousLink),
    ];
    for (head, check) in hostile {
        let world = world();
        let entries = [world.entry(0, 0)];
        assert_refused(world.open(&entries, 1, head), check);
    }
}

#[test]
fn no_block_plays_two_parts_in_a_list() {
    let parts: [fn(&World) -> [RedoEntry; 2]; 5] = [
        |world| [world.entry(0, 0), world.entry(0, 1)],
        |world| [world.entry(0, 0), world.entry(1, 0)],
        // The image lies where the list does.
        |world| [world.entry(0, 0), world.entry(1, 7)],
        |world| [world.entry(0, 0), RedoEntry { home: world.free[0], ..world.entry(1, 1) }],
        |world| [world.entry(0, 0), RedoEntry { home: world.free[7], ..world.entry(1, 1) }],
    ];
    for part in parts {
        let world = world();
        let entries = part(&world);
        assert_refused(world.open(&entries, 2, head()), Check::RedoList);
    }
}
