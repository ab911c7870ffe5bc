//! Seals blocks and writes them. Small batches run on the pool. Large ones run on threads of their own, of which some
//! wait for the disk while others seal.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use memmap2::MmapMut;
use rayon::prelude::*;

use super::handle::Store;
use crate::crypto::{KeyKind, SealJob};
use crate::device::page_aligned;
use crate::error::Result;
use crate::format::{BLOCK_SIZE, Generation, Position, runs_of};
use crate::parallel::{in_pool, thread_builder};

/// Smallest number of blocks for which sealing and writing overlap: 4 MiB.
pub(super) const LARGE_BLOCKS: usize = 1024;

/// Blocks per write: 1 MiB. Larger writes are not faster.
const BUFFER_BLOCKS: usize = 256;

/// Blocks sealed at a time: 256 KiB stay in the cache of a core.
const CHUNK_BLOCKS: usize = 64;

/// Smallest number of blocks for which write-back starts at once, so that the final sync is short.
const WRITE_BACK_BLOCKS: usize = 256;

/// Shorter runs go through the page cache, which merges them.
const DIRECT_BLOCKS: usize = 64;

/// Threads in addition to one per processor: they wait for the disk while the others seal.
const WAITING: usize = 2;

/// The buffers of a writer, reused by each large write.
#[derive(Debug, Default)]
pub(super) struct Buffers(Vec<MmapMut>);

/// Blocks to seal in one generation, and where to write them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) kind: KeyKind,
    pub(super) generation: Generation,
    pub(super) jobs: &'a [SealJob<'a>],
    /// The position of each block in the file: its own, or that of its shadow block.
    pub(super) targets: &'a [Position],
}

impl<'a> Batch<'a> {
    fn part(self, blocks: Range<usize>) -> Batch<'a> {
        let (jobs, targets) = (&self.jobs[blocks.clone()], &self.targets[blocks]);
        Batch { jobs, targets, ..self }
    }

    fn chunks(self) -> impl Iterator<Item = Batch<'a>> {
        let chunks = self.jobs.chunks(CHUNK_BLOCKS).zip(self.targets.chunks(CHUNK_BLOCKS));
        chunks.map(move |(jobs, targets)| Batch { jobs, targets, ..self })
    }

    /// Seals every block into `bytes`, which has the length of the sealed blocks.
    fn seal(self, store: &Store, bytes: &mut [u8]) -> Result<()> {
        store.sealer.seal_batch(self.kind, self.generation, self.jobs, bytes)
    }
}

/// The state that the threads of one large write share. Each thread takes the next part, seals it and writes it.
struct Parts<'a> {
    store: &'a Store,
    batch: Batch<'a>,
    next: AtomicUsize,
    has_failed: AtomicBool,
}

/// Seals and writes blocks. When it returns, even with an error, no write is in flight.
pub(super) fn seal_and_write(store: &Store, buffers: &mut Buffers, batch: Batch<'_>) -> Result<()> {
    if batch.jobs.len() >= LARGE_BLOCKS {
        return write_many(store, buffers, batch);
    }
    if batch.jobs.len() <= CHUNK_BLOCKS {
        // Waking a thread of the pool takes longer than sealing a few blocks.
        return seal_chunk(store, batch);
    }
    in_pool(|| {
        let targets = batch.targets.par_chunks(CHUNK_BLOCKS);
        batch
            .jobs
            .par_chunks(CHUNK_BLOCKS)
            .zip(targets)
            .try_for_each(|(jobs, targets)| seal_chunk(store, Batch { jobs, targets, ..batch }))
    })?;
    if batch.jobs.len() >= WRITE_BACK_BLOCKS {
        for run in runs_of(batch.targets) {
            store.device.start_write_back(run)?;
        }
    }
    Ok(())
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn seal_chunk(store: &Store, chunk: Batch<'_>) -> Result<()> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(chunk.jobs.len() * BLOCK_SIZE, 0);
        chunk.seal(store, scratch)?;
        let mut rest = &scratch[..];
        for run in runs_of(chunk.targets) {
            let blocks = usize::try_from(run.count()).expect("a chunk is small");
            let (now, later) = rest.split_at(blocks * BLOCK_SIZE);
            store.device.write(run.start(), now)?;
            rest = later;
        }
        Ok(())
    })
}

/// Seals and writes a large batch. It allocates only missing buffers.
fn write_many(store: &Store, buffers: &mut Buffers, batch: Batch<'_>) -> Result<()> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let count = batch.jobs.len().div_ceil(BUFFER_BLOCKS).min(processors + WAITING);
    while buffers.0.len() < count {
        buffers.0.push(page_aligned(BUFFER_BLOCKS * BLOCK_SIZE)?);
    }
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let parts = Parts { store, batch, next, has_failed };
    let [first, others @ ..] = &mut buffers.0[..count] else { return Ok(()) };
    thread::scope(|scope| {
        let parts = &parts;
        // If a thread cannot be started, this thread and those already started do the work.
        let started: Vec<ScopedJoinHandle<'_, Result<()>>> = others
            .iter_mut()
            .map_while(|buffer| {
                thread_builder().spawn_scoped(scope, move || parts.seal_all(buffer)).ok()
            })
            .collect();
        let outcome = parts.seal_all(first);
        started.into_iter().fold(outcome, |outcome, thread| {
            let other = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            outcome.and(other)
        })
    })
}

impl Parts<'_> {
    /// Seals and writes parts until none is left or one fails.
    fn seal_all(&self, buffer: &mut MmapMut) -> Result<()> {
        let count = self.batch.jobs.len();
        loop {
            let first = self.next.fetch_add(1, Ordering::Relaxed) * BUFFER_BLOCKS;
            if first >= count || self.has_failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let part = self.batch.part(first..count.min(first + BUFFER_BLOCKS));
            let outcome = self.seal(part, buffer);
            if outcome.is_err() {
                self.has_failed.store(true, Ordering::Relaxed);
                return outcome;
            }
        }
    }

    fn seal(&self, part: Batch<'_>, buffer: &mut MmapMut) -> Result<()> {
        let bytes = &mut buffer[..part.jobs.len() * BLOCK_SIZE];
        for (chunk, bytes) in part.chunks().zip(bytes.chunks_mut(CHUNK_BLOCKS * BLOCK_SIZE)) {
            chunk.seal(self.store, bytes)?;
        }
        write(self.store, bytes, part.targets)
    }
}

fn write(store: &Store, sealed: &[u8], targets: &[Position]) -> Result<()> {
    let mut rest = sealed;
    for run in runs_of(targets) {
        let blocks = usize::try_from(run.count()).expect("a buffer is small");
        let (now, later) = rest.split_at(blocks * BLOCK_SIZE);
        let is_large = blocks >= DIRECT_BLOCKS;
        if !is_large || !store.device.write_direct(run.start(), now)? {
            store.device.write(run.start(), now)?;
            store.device.start_write_back(run)?;
        }
        rest = later;
    }
    Ok(())
}

#[cfg(test)]
impl Buffers {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the addresses of the buffers, in order.
    pub(super) fn addresses(&self) -> std::collections::BTreeSet<usize> {
        self.0.iter().map(|buffer| buffer.as_ptr().addr()).collect()
    }
}
