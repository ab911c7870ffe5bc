//! Invariants checked here, in memory and block by block. The module that checks each is in parentheses.
//! - The newest commit is chosen from the four meta slots, for every state that a crash, a fault or an attacker
//!   leaves (`choose`).
//! - A commit is there after it returned, and a rollback leaves nothing. A changed block is read from its shadow
//!   block until it is home (`commit`).
//! - After a failed write or sync, every call fails, and opening again finds a whole commit (`faults`).
//! - A change of key slots is atomic, and an older header or slot is never accepted (`slots`).
//! - A change of the master key resumes after a crash, preserves the content, and leaves nothing under the old key
//!   (`rekey`). Attackers, bad sectors and headers from other times do not change that (`rekey_attacks`).
//! - Newer formats, wrong keys, damage, tampering, truncation and locks are distinct errors (`open`).
//! - A large write has the same result as small ones, even if it fails halfway (`pipeline`). Everything that relies
//!   on an in-flight write waits for it (`in_flight`).
//! - Reading a run in batches returns the same as reading its blocks one by one (`read`).
//! - Positions are allocated from the pool, then from the end of the file, and the reserve serves deletions only
//!   (`space`, `writer`).
//! - A reader next to a writer reads only a commit that it has locked, and takes no torn write for damage (`readers`).
//! - An exported header is imported only if it is newer or current, and no hostile redo list is accepted. A
//!   block of the list, or a shadow block, that does not open costs only the blocks that it names (`backup`, `redo`).
//! - A return to a savepoint restores the state of that point, and seals no position twice in a step (`savepoint`).
//! - Repair writes good copies over bad ones, and never trusts an older one (`repair`).
//! - The third copies of header and meta slots are used only if the others are lost (`third`).
//! - Wiped blocks are blank, and no others change (`wipe`).
//! - A commit stores the state of the layer above, and a store reports its own facts (`facts`).

mod backup;
mod choose;
mod commit;
mod facts;
mod faults;
mod in_flight;
mod open;
mod pipeline;
mod read;
mod readers;
mod redo;
mod rekey;
mod rekey_attacks;
mod repair;
mod savepoint;
mod slots;
mod space;
mod third;
mod threads;
mod trim;
mod wipe;
mod writer;

use std::sync::Arc;

use super::*;
use crate::crypto::{KeyKind, RawKey, SealJob, Secret};
use crate::device::{Device, MemoryDevice};
use crate::error::{Error, Result};
use crate::format::{BlockHead, BlockRef, DATA_SIZE, Data, MetaSlot, Position, Run, THIRD_COPIES};

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

/// Data that repeats one byte.
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

/// Seals a new version of a live block.
fn change_block(writer: &mut Writer, position: Position, byte: u8) -> Result<BlockRef> {
    let data = data(byte);
    let job = SealJob { position, head: BlockHead::default(), data: &data };
    Ok(BlockRef { position, generation: writer.write_over(&[job], Urgency::Ordinary)? })
}

/// Commits the transaction with `mark` in the first counter. The rest of the meta slot stays the same.
fn commit(writer: &mut Writer, mark: u64) -> Result<Arc<Commit>> {
    let redo = writer.write_redo_list()?;
    let mut update = SlotUpdate { redo, ..update_of(&writer.store().current().slot) };
    update.counters[0] = mark;
    writer.commit(update)
}

/// An update that changes nothing.
fn update_of(slot: &MetaSlot) -> SlotUpdate {
    SlotUpdate {
        roots: slot.roots,
        inline_free: slot.inline_free.clone(),
        reserved_streams: slot.reserved_streams.clone(),
        counters: slot.counters,
        metadata: slot.metadata.clone(),
        sessions_recorded: false,
        redo: listed::WrittenRedoList::default(),
    }
}

/// Reads a data block and returns the byte that it repeats.
fn read(store: &Store, block: BlockRef) -> Result<u8> {
    let commit = store.current();
    let block = store.read_block(&commit.redirects, KeyKind::Data, block)?;
    assert_eq!(block.data[..], data(block.data[0])[..]);
    Ok(block.data[0])
}

/// Allocates every block before the third copies, so that the next runs can be of any length.
fn allocate_before_third_copies(writer: &mut Writer) -> Run {
    let run = writer.allocate(u32::MAX, Urgency::Ordinary).unwrap();
    assert_eq!(run.end(), THIRD_COPIES.start);
    run
}

fn mark(store: &Store) -> u64 {
    store.current().slot.counters[0]
}

/// Corrupts one byte of a block in the file.
fn corrupt(device: &MemoryDevice, position: Position) {
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

/// A device on which some blocks are unreadable.
#[derive(Clone)]
struct Unreadable(MemoryDevice, Vec<u32>);

impl Device for Unreadable {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        let end = start.get() + u32::try_from(bytes.len() / crate::format::BLOCK_SIZE).unwrap();
        if self.1.iter().any(|block| (start.get()..end).contains(block)) {
            return Err(Error::io("read", std::io::Error::other("bad sector")));
        }
        self.0.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.0.write(start, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.0.sync()
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.0.grow(blocks)
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        self.0.shrink(blocks)
    }

    fn length_bytes(&self) -> Result<u64> {
        self.0.length_bytes()
    }
}
