//! Large writes: some threads seal while others write, so that neither the processor nor the disk waits for the other.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use rayon::prelude::*;

use super::Store;
use super::stage::runs_of;
use crate::crypto::{KeyKind, SealJob};
use crate::device::AlignedBuffer;
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, Generation, Position};

/// From this many blocks on, sealing and writing go on side by side: 4 MiB.
pub(super) const LARGE_BLOCKS: usize = 1024;

/// Blocks that are written at a time: 1 MiB, from which on a disk is not faster.
const BUFFER_BLOCKS: usize = 256;

/// Blocks that are sealed at a time: 256 KiB stay in the cache of a core.
const CHUNK_BLOCKS: usize = 64;

/// Runs shorter than this go through the page cache, which joins them.
const DIRECT_BLOCKS: usize = 64;

/// Threads that wait for the disk.
const WRITERS: usize = 4;

/// Buffers of a writer, kept from one large write to the next.
#[derive(Debug, Default)]
pub(super) struct Buffers(Vec<AlignedBuffer>);

/// Sealed blocks, and where they go.
type Sealed<'a> = (AlignedBuffer, &'a [Position]);

/// Seals blocks and writes them. Nothing is allocated for the blocks, once the buffers are there.
pub(super) fn seal_and_write(
    store: &Store,
    buffers: &mut Buffers,
    kind: KeyKind,
    generation: Generation,
    jobs: &[SealJob<'_>],
    targets: &[Position],
) -> Result<()> {
    let count = rayon::current_num_threads() + WRITERS;
    let (emptied, empty) = bounded(count);
    let made = || AlignedBuffer::new(BUFFER_BLOCKS * BLOCK_SIZE);
    let kept = std::mem::take(&mut buffers.0);
    for buffer in kept.into_iter().chain(std::iter::repeat_with(made)).take(count) {
        emptied.send(buffer).expect("room for every buffer");
    }
    let (full, sealed) = bounded::<Sealed<'_>>(count);
    let failure = Mutex::new(None);
    let outcome = thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (sealed, emptied, failure) = (sealed.clone(), emptied.clone(), &failure);
            scope.spawn(move || write_all(store, &sealed, &emptied, failure));
        }
        drop((sealed, emptied));
        let parts = jobs.par_chunks(BUFFER_BLOCKS).zip(targets.par_chunks(BUFFER_BLOCKS));
        let outcome = parts.try_for_each(|(jobs, targets)| {
            let mut buffer = empty.recv().expect("the writers give buffers back");
            let bytes = &mut buffer[..jobs.len() * BLOCK_SIZE];
            // A chunk at a time, on this thread: one that waits for another's part could be given a buffer more.
            for (jobs, bytes) in
                jobs.chunks(CHUNK_BLOCKS).zip(bytes.chunks_mut(CHUNK_BLOCKS * BLOCK_SIZE))
            {
                store.sealer.seal_batch(kind, generation, jobs, bytes)?;
            }
            full.send((buffer, targets)).expect("the writers wait for what is sealed");
            Ok(())
        });
        drop(full);
        outcome
    });
    buffers.0.extend(empty.try_iter());
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => outcome,
    }
}

/// Writes what is sealed until there is no more, or until something fails: then only gives back the buffers.
fn write_all(
    store: &Store,
    sealed: &Receiver<Sealed<'_>>,
    emptied: &Sender<AlignedBuffer>,
    failure: &Mutex<Option<Error>>,
) {
    for (buffer, targets) in sealed {
        let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failed().is_none()
            && let Err(error) = write(store, &buffer, targets)
        {
            failed().get_or_insert(error);
        }
        // Nobody takes a buffer any more once everything is sealed.
        let _ = emptied.send(buffer);
    }
}

fn write(store: &Store, sealed: &[u8], targets: &[Position]) -> Result<()> {
    let mut rest = sealed;
    for run in runs_of(targets) {
        let blocks = usize::try_from(run.count()).expect("a buffer is small");
        let (now, later) = rest.split_at(blocks * BLOCK_SIZE);
        let is_large = blocks >= DIRECT_BLOCKS;
        if !is_large || !store.device.write_past_cache(run.start(), now)? {
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

    /// Where the buffers lie, in order.
    pub(super) fn addresses(&self) -> std::collections::BTreeSet<usize> {
        self.0.iter().map(|buffer| buffer.as_ptr().addr()).collect()
    }
}
