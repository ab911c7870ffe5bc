//! Invariants checked here, in memory and block by block:
//! - which of the four meta slots counts, for every shape that a crash, a fault or an attacker leaves (`choose`);
//! - a commit is there after it returned, a rollback leaves nothing, and a changed block is found at its spare
//!   until it is in its place (`commit`);
//! - after a write or sync that failed, every call says so, and opening again gives a commit, whole (`faults`);
//! - a change of key slots is whole after a crash, and an older header or slot is never accepted (`slots`);
//! - a change of the master key goes on after a crash, changes nothing that is read, and leaves nothing under the
//!   old key (`rekey`), whatever an attacker, a bad sector or a header from another time does to it (`rekey_attacks`);
//! - newer formats, wrong keys, damage, tampering, truncation and locks are told apart (`open`);
//! - a large write leaves what a small one does, also where it fails half-way (`pipeline`), and one that goes on by
//!   itself is over before anything relies on it (`in_flight`);
//! - a run that is read in batches is what its blocks are, one by one (`read`);
//! - positions are given out from what is at hand, then from the end, and the reserve to deletions only (`space`, `stage`);
//! - an exported header comes back only if it is newer, or the one that counts (`backup`), and a redo list only if it is
//!   whole (`redo`);
//! - what is wiped is blank, and nothing else is (`wipe`);
//! - a commit takes over what it is told, and a store says what it is (`facts`).

mod backup;
mod choose;
mod commit;
mod facts;
mod faults;
mod in_flight;
mod open;
mod pipeline;
mod read;
mod redo;
mod rekey;
mod rekey_attacks;
mod slots;
mod space;
mod threads;
mod trim;
mod wipe;
mod writer;

use std::sync::Arc;

use super::*;
use crate::crypto::{KeyKind, RawKey, SealJob, Secret};
use crate::device::{Device, MemoryDevice};
use crate::error::{Error, Result};
use crate::format::{BlockHead, BlockRef, DATA_SIZE, Data, MetaSlot, Position};

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([3; 32]))
}

fn create() -> (MemoryDevice, Arc<Store>, Writer) {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let made = Store::create_device(Box::new(device.clone()), &secret(), &options);
    let (store, writer) = made.unwrap();
    (device, store, writer)
}

fn try_open(
    device: &(impl Device + Clone + 'static),
    access: Access,
) -> Result<(Arc<Store>, Option<Writer>)> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Store::open_device(Box::new(device.clone()), &secret(), options)
}

fn read_only(device: &(impl Device + Clone + 'static)) -> Arc<Store> {
    try_open(device, Access::Read).unwrap().0
}

fn writer(device: &(impl Device + Clone + 'static)) -> (Arc<Store>, Writer) {
    let (store, writer) = try_open(device, Access::Write).unwrap();
    (store, writer.unwrap())
}

/// Data whose every byte is the same.
fn data(byte: u8) -> Data {
    [byte; DATA_SIZE]
}

/// Seals a new block.
fn add_block(writer: &mut Writer, kind: KeyKind, byte: u8) -> Result<BlockRef> {
    let run = writer.allocate(1, Urgency::Ordinary)?;
    let (position, data) = (run.start(), data(byte));
    let job = SealJob { position, head: BlockHead::default(), data: &data };
    Ok(BlockRef { position, generation: writer.write_fresh(kind, &[job])? })
}

/// Seals another version of a live block.
fn change_block(writer: &mut Writer, position: Position, byte: u8) -> Result<BlockRef> {
    let data = data(byte);
    let job = SealJob { position, head: BlockHead::default(), data: &data };
    Ok(BlockRef { position, generation: writer.write_over(&[job])? })
}

/// Commits what the writer has, with `mark` in the first counter and everything else as it was.
fn commit(writer: &mut Writer, mark: u64) -> Result<Arc<Commit>> {
    let redo = writer.write_redo_list()?;
    let slot = writer.store().current().slot.clone();
    let mut counters = slot.counters;
    counters[0] = mark;
    writer.commit(SlotUpdate {
        roots: slot.roots,
        inline_free: slot.inline_free,
        reserved_streams: slot.reserved_streams,
        counters,
        metadata: slot.metadata,
        sessions_recorded: false,
        redo,
    })
}

/// The byte of which a block of data consists.
fn read(store: &Store, block: BlockRef) -> Result<u8> {
    let commit = store.current();
    let block = store.read_block(&commit.redirects, KeyKind::Data, block)?;
    assert_eq!(block.data[..], data(block.data[0])[..]);
    Ok(block.data[0])
}

fn mark(store: &Store) -> u64 {
    store.current().slot.counters[0]
}

/// Turns one byte of a block in the file.
fn rot(device: &MemoryDevice, position: Position) {
    let mut bytes = [0; crate::format::BLOCK_SIZE];
    device.read(position, &mut bytes).unwrap();
    bytes[2000] ^= 1;
    device.write(position, &bytes).unwrap();
}

fn raw(device: &MemoryDevice, position: Position) -> Vec<u8> {
    let mut bytes = vec![0; crate::format::BLOCK_SIZE];
    device.read(position, &mut bytes).unwrap();
    bytes
}
