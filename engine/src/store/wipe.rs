//! Making what is no longer wanted unreadable: free blocks, and the keys themselves.

use std::path::Path;

use super::handle::Store;
use super::open::{Access, open_locked};
use super::space::Space;
use super::superblock::header::{check_length, parse};
use super::writer::Writer;
use crate::crypto::{KeyKind, SealJob, random_array};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, BlockHead, DATA_SIZE, Data, HEADERS, Position, RESERVED_BLOCKS, Run,
};

/// Blocks that are sealed at a time: 1 MiB.
const BATCH_BLOCKS: u32 = 256;

impl Writer {
    /// Seals blank blocks over runs that were free at the last commit, and makes them durable. Returns the number of
    /// blocks; those that a reader of this process may still read are left out.
    ///
    /// A crash at any point is harmless: nothing that a commit names is touched. [`Error::Uncommitted`] while a
    /// transaction is under way, whose free blocks are not those of the last commit.
    pub fn wipe(&mut self, runs: &[Run]) -> Result<u64> {
        self.check_no_transaction()?;
        let mut wiped = 0;
        for &run in runs {
            let within = run.start().get() >= RESERVED_BLOCKS && run.end() <= self.block_count();
            if !within || self.transaction.listed().intersects(run) {
                let expected = "free blocks of the archive";
                return Err(Error::damaged(run.start(), Check::FreeMap, expected, run.count()));
            }
            for usable in Space::usable(run, &mut self.pins).iter() {
                wiped += self.blank(usable)?;
            }
        }
        self.end_wipe()?;
        Ok(wiped)
    }

    /// The same for what the file holds behind the last block of the archive.
    pub fn wipe_tail(&mut self) -> Result<u64> {
        self.check_no_transaction()?;
        if self.is_pinned() {
            // An earlier commit may have been longer.
            return Ok(0);
        }
        let wiped = self.space.tail().map_or(Ok(0), |tail| self.blank(tail))?;
        self.end_wipe()?;
        Ok(wiped)
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

    /// The blanks may be sealed over in the transaction that follows: its step is another, so that no position is
    /// sealed twice in one.
    fn end_wipe(&mut self) -> Result<()> {
        self.store.poisoning(self.store.device.sync())?;
        let raised = self.transaction.raise_step();
        self.store.poisoning(raised)
    }
}

impl Store {
    /// Destroys every key slot, and with them everything in the archive, for ever: both copies of the header are
    /// overwritten with random bytes. No key is needed. What is no archive is not touched.
    pub fn shred(path: &Path) -> Result<()> {
        let shred = || Store::shred_device(&open_locked(path, Access::Write)?);
        shred().map_err(|error: Error| error.at_path(path))
    }

    /// The same on a device.
    pub fn shred_device(device: &dyn Device) -> Result<()> {
        check_length(device)?;
        let mut refusal = None;
        for position in HEADERS {
            match parse(device, position).2 {
                Err(error @ (Error::NotAnArchive { .. } | Error::Io { .. })) => {
                    refusal.get_or_insert(error);
                }
                // Damaged or newer, it may still hold keys; and it is a header, so this is an archive.
                _ => return overwrite_headers(device),
            }
        }
        refusal.map_or(Ok(()), Err)
    }
}

fn overwrite_headers(device: &dyn Device) -> Result<()> {
    for position in HEADERS {
        device.write(position, &random_array::<BLOCK_SIZE>()?)?;
        device.sync()?;
    }
    Ok(())
}
