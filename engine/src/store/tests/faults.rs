//! The k-th write, sync or growth fails, for every k. From then on every call on the handle fails, and opening again
//! finds the previous commit or the new one, whole.

use std::io;
use std::sync::Mutex;

use super::*;
use crate::error::Error;
use crate::format::BLOCK_SIZE;

/// A device on which one operation fails.
#[derive(Clone)]
pub(super) struct Faulty {
    device: MemoryDevice,
    /// Operations before the failure; `None` if none will fail.
    left: Arc<Mutex<Option<u32>>>,
    fault: Fault,
}

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Nothing is written.
    Nothing,
    /// Half of a block is written.
    Torn,
    /// Everything is written, but the write reports an error.
    Late,
}

impl Faulty {
    pub(super) fn on(device: &MemoryDevice, fault: Fault) -> Faulty {
        Faulty { device: device.clone(), left: Arc::new(Mutex::new(None)), fault }
    }

    pub(super) fn fail_after(&self, operations: u32) {
        *self.left.lock().unwrap() = Some(operations);
    }

    /// Returns the number of operations before the failure, if it is still to come.
    pub(super) fn left(&self) -> Option<u32> {
        *self.left.lock().unwrap()
    }

    /// Returns whether this operation is the one that fails. Later ones succeed.
    fn fails(&self) -> bool {
        let mut left = self.left.lock().unwrap();
        match *left {
            Some(0) => {
                *left = None;
                true
            }
            Some(more) => {
                *left = Some(more - 1);
                false
            }
            None => false,
        }
    }
}

fn failure(operation: &'static str) -> Error {
    Error::io(operation, io::Error::other("planned fault"))
}

impl Device for Faulty {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.device.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        if !self.fails() {
            return self.device.write(start, bytes);
        }
        match self.fault {
            Fault::Nothing => {}
            Fault::Late => self.device.write(start, bytes)?,
            Fault::Torn => {
                let mut torn = [0; BLOCK_SIZE];
                self.device.read(start, &mut torn)?;
                torn[..2048].copy_from_slice(&bytes[..2048]);
                self.device.write(start, &torn)?;
            }
        }
        Err(failure("write"))
    }

    fn sync(&self) -> Result<()> {
        if self.fails() { Err(failure("sync")) } else { self.device.sync() }
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        if self.fails() { Err(failure("grow")) } else { self.device.grow(blocks) }
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        if self.fails() { Err(failure("shrink")) } else { self.device.shrink(blocks) }
    }

    fn length_bytes(&self) -> Result<u64> {
        self.device.length_bytes()
    }
}

/// An archive with a block that the next commit changes, and one that it keeps.
struct World {
    device: MemoryDevice,
    changed: BlockRef,
    kept: BlockRef,
}

fn world() -> World {
    let (device, _, mut writer) = create();
    let changed = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    let kept = add_block(&mut writer, KeyKind::Data, 9).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    World { device, changed, kept }
}

/// Runs a transaction with every kind of operation: growth, a new block, a changed block, a redo list and the commit.
fn transaction(writer: &mut Writer, world: &World, blocks: &mut Vec<BlockRef>) -> Result<()> {
    writer.allocate(1000, Urgency::Ordinary)?;
    blocks.push(add_block(writer, KeyKind::Data, 3)?);
    blocks.push(change_block(writer, world.changed.position, 2)?);
    commit(writer, 2).map(drop)
}

pub(super) fn assert_poisoned<T>(outcome: Result<T>) {
    match outcome.err() {
        Some(Error::Poisoned { cause }) => assert!(matches!(*cause, Error::Io { .. }), "{cause}"),
        other => panic!("expected a poisoned store, found {other:?}"),
    }
}

/// Asserts that every call fails on a store whose medium failed.
fn assert_unusable(store: &Store, mut writer: Writer, world: &World) {
    assert_poisoned(store.check_usable());
    assert_poisoned(read(store, world.kept));
    assert_poisoned(store.reserved_block(Position::at(1)));
    assert_poisoned(writer.allocate(1, Urgency::Ordinary));
    assert_poisoned(add_block(&mut writer, KeyKind::Data, 1));
    assert_poisoned(change_block(&mut writer, world.changed.position, 1));
    assert_poisoned(commit(&mut writer, 3));
    assert_poisoned(writer.rollback());
    assert_poisoned(writer.finish());
}

#[test]
fn a_failed_operation_poisons_the_handle_and_loses_no_commit() {
    for fault in [Fault::Nothing, Fault::Torn, Fault::Late] {
        let mut outcomes = [0, 0];
        for operation in 0.. {
            let world = world();
            let faulty = Faulty::on(&world.device, fault);
            let (store, mut writer) = writer(&faulty);
            faulty.fail_after(operation);
            let mut blocks = Vec::new();
            match transaction(&mut writer, &world, &mut blocks) {
                Ok(()) => {
                    assert!(operation > 8, "only {operation} operations in a transaction");
                    assert_eq!(mark(&store), 2);
                    check_state(&store, &world, &blocks);
                    break;
                }
                Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
            }
            assert_unusable(&store, writer, &world);
            drop(store);
            // Opens again, first as a reader, then as a writer that recovers.
            let found = mark(&read_only(&world.device));
            check_state(&read_only(&world.device), &world, &blocks);
            let (store, mut writer) = self::writer(&world.device);
            assert_eq!(mark(&store), found, "recovery chooses the same commit");
            check_state(&store, &world, &blocks);
            outcomes[usize::try_from(found).unwrap() - 1] += 1;
            commit(&mut writer, found).unwrap();
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{fault:?}: {outcomes:?}");
    }
}

/// Asserts that the archive is at the first or the second commit, whole.
fn check_state(store: &Store, world: &World, blocks: &[BlockRef]) {
    assert_eq!(read(store, world.kept).unwrap(), 9);
    match (mark(store), blocks) {
        (1, _) => assert_eq!(read(store, world.changed).unwrap(), 1),
        (2, &[added, changed]) => {
            assert_eq!((read(store, added).unwrap(), read(store, changed).unwrap()), (3, 2));
        }
        (number, _) => panic!("commit {number} with {} of its blocks", blocks.len()),
    }
}

#[test]
fn opening_succeeds_after_an_earlier_open_failed_at_any_operation() {
    for fault in [Fault::Nothing, Fault::Torn, Fault::Late] {
        for operation in 0.. {
            let world = world();
            // A crash that left work for recovery: a bad copy of the slot, a bad header, and a shadow block not
            // copied home.
            let home = raw(&world.device, world.changed.position);
            let (_, mut writer) = writer(&world.device);
            let changed = change_block(&mut writer, world.changed.position, 2).unwrap();
            commit(&mut writer, 2).unwrap();
            drop(writer);
            world.device.write(world.changed.position, &home).unwrap();
            corrupt(&world.device, Position::at(3));
            corrupt(&world.device, Position::at(0));
            let faulty = Faulty::on(&world.device, fault);
            faulty.fail_after(operation);
            let opened = try_open(&faulty, Access::Write);
            let failed = opened.is_err();
            drop(opened);
            let (store, _writer) = self::writer(&world.device);
            assert_eq!((mark(&store), read(&store, changed).unwrap()), (2, 2), "{operation}");
            if !failed {
                assert!(operation > 8, "only {operation} operations in opening");
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_is_not_a_failure_of_the_medium() {
    let (device, store, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    device.set_capacity(writer.block_count() + RESERVE_BLOCKS + 10);
    let mut allocated = 0;
    let error = loop {
        match writer.allocate(1, Urgency::Ordinary) {
            Ok(run) => allocated += run.count(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert!(allocated >= 10);
    // The reserve serves the allocations of a deletion.
    let reserve = writer.allocate(RESERVE_BLOCKS / 2, Urgency::Reserve).unwrap();
    assert!(reserve.count() > 0);
    store.check_usable().unwrap();
    writer.rollback().unwrap();
    assert_eq!(read(&store, block).unwrap(), 1);
    commit(&mut writer, 2).unwrap();
}
