//! Makes old content unreadable: wipes free blocks, and destroys the key slots.

use std::path::Path;
use std::time::Duration;

use super::handle::Store;
use super::open::{lock_out_readers, open_locked};
use super::space::Space;
use super::superblock::header::{check_length, parse};
use super::superblock::places::header_positions;
use super::writer::Writer;
use crate::crypto::{KeyKind, SealJob, random_array};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, BLOCK_SIZE_U64, BlockHead, DATA_SIZE, Data, HEADERS, Position, Run, THIRD_HEADER,
    has_reserved,
};

/// Blocks sealed at a time: 1 MiB.
const BATCH_BLOCKS: u32 = 256;

/// What one step of a wipe did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wiped {
    /// Number of wiped blocks.
    pub blocks: u64,
    /// Number of blocks left out, because a pinned snapshot may still read them.
    pub held: u64,
    /// The oldest pinned commit, if blocks were left out.
    pub oldest: Option<u64>,
}

impl Wiped {
    fn hold(&mut self, blocks: u64, oldest: Option<u64>) {
        self.held += blocks;
        self.oldest = self.oldest.or(oldest.filter(|_| blocks > 0));
    }
}

impl std::ops::AddAssign for Wiped {
    fn add_assign(&mut self, other: Wiped) {
        self.blocks += other.blocks;
        self.hold(other.held, other.oldest);
    }
}

impl Writer {
    /// Seals blank blocks over runs that were free at the last commit, and makes them durable. It leaves out blocks
    /// that a pinned snapshot may still read, and counts them: the snapshot may be gone before the caller asks again.
    ///
    /// A crash at any point is harmless, because no commit refers to these blocks. Fails with [`Error::Uncommitted`]
    /// if the transaction has changes, since its free blocks are then not those of the last commit.
    pub fn wipe(&mut self, runs: &[Run]) -> Result<Wiped> {
        self.check_no_transaction()?;
        let oldest = self.query_oldest()?;
        let listed = self.transaction.listed().blocks();
        // Checked before the first block is sealed: after an error, nothing would raise the step.
        for &run in runs {
            let within = !has_reserved(run) && run.end() <= self.block_count();
            if !within || listed.intersects(run) {
                let expected = "free blocks of the archive";
                return Err(Error::damaged(run.start(), Check::FreeMap, expected, run.count()));
            }
        }
        let mut wiped = Wiped::default();
        for &run in runs {
            let usable = Space::usable(run, &mut self.pins);
            for part in usable.iter() {
                wiped.blocks += self.blank(part)?;
            }
            wiped.hold(u64::from(run.count()) - usable.blocks(), oldest);
        }
        self.end_wipe()?;
        Ok(wiped)
    }

    /// Wipes the blocks of the file behind the last block of the archive in the same way.
    pub fn wipe_tail(&mut self) -> Result<Wiped> {
        self.check_no_transaction()?;
        let mut wiped = Wiped::default();
        let Some(tail) = self.space.tail() else { return Ok(wiped) };
        let oldest = self.query_oldest()?;
        if oldest.is_some() {
            // The pinned commit may have been longer.
            wiped.hold(tail.count().into(), oldest);
            return Ok(wiped);
        }
        wiped.blocks = self.blank(tail)?;
        self.end_wipe()?;
        Ok(wiped)
    }

    /// Fails with [`Error::HeldByReaders`] if a wipe, whose steps add up to `wiped`, left old data: in blocks that
    /// snapshots pinned at that time, or in the home locations of blocks whose newest version is elsewhere.
    pub fn check_wiped(&mut self, wiped: Wiped) -> Result<()> {
        let carried = self.carried_images();
        if wiped.held == 0 && carried == 0 {
            return Ok(());
        }
        let newest = self.store.current().slot.number;
        Err(Error::HeldByReaders {
            oldest: wiped.oldest.or(self.pins.lowest()).unwrap_or(newest),
            entries: u64::try_from(carried).unwrap_or(u64::MAX),
            blocks: wiped.held,
        })
    }

    /// Asks which commits are read now. Returns the oldest, if it is not the newest commit.
    fn query_oldest(&mut self) -> Result<Option<u64>> {
        self.query_readers()?;
        Ok(self.oldest_pinned())
    }

    fn blank(&mut self, run: Run) -> Result<u64> {
        let data: Data = [0; DATA_SIZE];
        let mut left = Some(run);
        while let Some((Some(part), rest)) = left.map(|left| left.split(BATCH_BLOCKS)) {
            let head = BlockHead::default();
            let targets: Vec<Position> = part.positions().collect();
            let jobs: Vec<SealJob<'_>> =
                targets.iter().map(|&position| SealJob { position, head, data: &data }).collect();
            self.seal_and_write(KeyKind::Data, &jobs, &targets)?;
            left = rest;
        }
        Ok(u64::from(run.count()))
    }

    /// Makes the blank blocks durable and raises the step: the next transaction may seal the same positions, and no
    /// position is sealed twice in one step.
    fn end_wipe(&mut self) -> Result<()> {
        self.store.poisoning(self.store.device.sync())?;
        let raised = self.transaction.raise_step();
        self.store.poisoning(raised)
    }
}

impl Store {
    /// Destroys every key slot, and with them access to everything in the archive, forever. It overwrites every copy
    /// of the header with random bytes, and needs no key. A file that is not an archive is left unchanged, even if it
    /// contains one.
    ///
    /// Waits up to `wait` until no other process has the archive open.
    pub fn shred(path: &Path, wait: Duration) -> Result<()> {
        let shred = || {
            let file = open_locked(path, wait)?;
            lock_out_readers(&file, wait)?;
            Store::shred_device(&file)
        };
        shred().map_err(|error: Error| error.at_path(path))
    }

    /// Does the same on a device.
    pub fn shred_device(device: &dyn Device) -> Result<()> {
        check_length(device)?;
        let mut refusal = None;
        for position in header_positions(device)? {
            match parse(device, position).2 {
                _ if position == THIRD_HEADER && is_embedded(device)? => {}
                Err(error @ (Error::NotAnArchive { .. } | Error::Io { .. })) => {
                    refusal.get_or_insert(error);
                }
                // A damaged or newer header may still hold keys. It is a header, so this file is an archive.
                _ => return overwrite_headers(device),
            }
        }
        refusal.map_or(Ok(()), Err)
    }
}

/// Returns whether block 256 is the first block of an archive inside of this file, for example in a disk image with one
/// partition: its second copy of the header follows seven blocks later.
fn is_embedded(device: &dyn Device) -> Result<bool> {
    let second = Position::at(THIRD_HEADER.get() + HEADERS[1].get());
    if device.length_bytes()? < second.offset() + BLOCK_SIZE_U64 {
        return Ok(false);
    }
    Ok(parse(device, second).2.is_ok())
}

fn overwrite_headers(device: &dyn Device) -> Result<()> {
    for position in header_positions(device)? {
        device.write(position, &random_array::<BLOCK_SIZE>()?)?;
        device.sync()?;
    }
    Ok(())
}
