//! Hostile redo lists, written by a holder of the keys: opening refuses all of them.

use super::*;
use crate::error::Check;
use crate::format::{Generation, REDO_STREAM, RedoEntry, Run, encode_redo};
use crate::store::redo::WrittenRedoList;

/// An archive with some blocks, and the parts of a redo list.
struct World {
    device: MemoryDevice,
    writer: Writer,
    /// Live blocks.
    homes: Vec<Position>,
    /// Free positions for shadow blocks and for the list.
    free: Vec<Position>,
}

fn world() -> World {
    let (device, _, mut writer) = create();
    let mut homes = Vec::new();
    for byte in 1..=3 {
        homes.push(add_block(&mut writer, KeyKind::Data, byte).unwrap().position);
    }
    commit(&mut writer, 1).unwrap();
    let free = writer.allocate_all(8, Urgency::Ordinary).unwrap();
    World { device, writer, homes, free }
}

impl World {
    fn entry(&self, home: usize, shadow: usize) -> RedoEntry {
        let generation = Generation { session: 1, step: 1, salt: 1 };
        RedoEntry { home: self.homes[home], shadow: self.free[shadow], generation }
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
fn a_redo_list_like_a_writers_is_accepted() {
    let world = world();
    let entries = [world.entry(0, 0), world.entry(1, 1)];
    let expected: Vec<Position> = vec![world.free[0], world.free[1], world.free[7]];
    let store = world.open(&entries, 2, head()).unwrap();
    assert_eq!(store.recovery().redo_blocks, 2);
    let listed = store.redo_blocks(&store.current()).unwrap();
    assert_eq!(listed, expected.into_iter().map(Run::single).collect());
}

#[test]
fn a_redo_list_has_the_length_in_the_meta_slot() {
    for length in [1, 3] {
        let world = world();
        let entries = [world.entry(0, 0), world.entry(1, 1)];
        assert_refused(world.open(&entries, length, head()), Check::RedoList);
    }
    // A chain that is longer than its entries need, and one that is too short.
    let world = self::world();
    let (entries, next) = ([world.entry(0, 0)], Some(world.free[6]));
    assert_refused(world.open(&entries, 1, BlockHead { next, ..head() }), Check::RedoList);
    let world = self::world();
    let entries: Vec<RedoEntry> = (0..2).map(|at| world.entry(at, at)).collect();
    assert_refused(world.open(&entries, 201, head()), Check::RedoList);
}

#[test]
fn blocks_of_a_redo_list_have_the_right_stream_index_and_link() {
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
fn no_block_has_two_roles_in_a_redo_list() {
    let parts: [fn(&World) -> [RedoEntry; 2]; 5] = [
        |world| [world.entry(0, 0), world.entry(0, 1)],
        |world| [world.entry(0, 0), world.entry(1, 0)],
        // The shadow block is a block of the list.
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
