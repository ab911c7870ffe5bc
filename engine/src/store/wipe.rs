//! Makes old content unreadable: wipes free blocks, and destroys the key slots.

use std::path::Path;
use std::time::Duration;

use super::handle::Store;
use super::open::{lock_out_readers, open_locked};
use super::space::Space;
use super::superblock::header::{check_length, parse};
use super::writer::Writer;
use crate::crypto::{KeyKind, SealJob, random_array};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, BlockHead, DATA_SIZE, Data, HEADERS, Position, RESERVED_BLOCKS, Run,
};

/// Blocks sealed at a time: 1 MiB.
const BATCH_BLOCKS: u32 = 256;

impl Writer {
    /// Seals blank blocks over runs that were free at the last commit, and makes them durable. It leaves out blocks
    /// that a pinned snapshot may still read. Returns the number of wiped blocks.
    ///
    /// A crash at any point is harmless, because no commit refers to these blocks. Fails with [`Error::Uncommitted`]
    /// if the transaction has changes, since its free blocks are then not those of the last commit.
    pub fn wipe(&mut self, runs: &[Run]) -> Result<u64> {
        self.check_no_transaction()?;
        let (mut wiped, listed) = (0, self.transaction.listed().blocks());
        for &run in runs {
            let within = run.start().get() >= RESERVED_BLOCKS && run.end() <= self.block_count();
            if !within || listed.intersects(run) {
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

    /// Wipes the blocks of the file behind the last block of the archive in the same way.
    pub fn wipe_tail(&mut self) -> Result<u64> {
        self.check_no_transaction()?;
        if self.is_pinned()? {
            // The pinned commit may have been longer.
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

    /// Makes the blank blocks durable and raises the step: the next transaction may seal the same positions, and no
    /// position is sealed twice in one step.
    fn end_wipe(&mut self) -> Result<()> {
        self.store.poisoning(self.store.device.sync())?;
        let raised = self.transaction.raise_step();
        self.store.poisoning(raised)
    }
}

impl Store {
    /// Destroys every key slot, and with them access to everything in the archive, forever. It overwrites both copies
    /// of the header with random bytes, and needs no key. A file that is not an archive is left unchanged.
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
        for position in HEADERS {
            match parse(device, position).2 {
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

fn overwrite_headers(device: &dyn Device) -> Result<()> {
    for position in HEADERS {
        device.write(position, &random_array::<BLOCK_SIZE>()?)?;
        device.sync()?;
    }
    Ok(())
}
