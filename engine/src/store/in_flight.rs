//! The in-flight write: a large write on a thread of its own, while its writer does other things.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use super::handle::Store;
use super::pipeline::{self, Buffers, LARGE_BLOCKS};
use crate::crypto::{KeyKind, SealJob};
use crate::error::{Error, Result};
use crate::format::{BlockHead, Generation, OwnedData, Position};
use crate::parallel::is_single_threaded;
use crate::process;

/// A block to be sealed, with its data.
#[derive(Debug)]
pub struct OwnedSealJob {
    /// The position for which it is sealed.
    pub position: Position,
    /// Links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: OwnedData,
}

impl OwnedSealJob {
    fn as_job(&self) -> SealJob<'_> {
        SealJob { position: self.position, head: self.head, data: &self.data }
    }
}

/// The in-flight write, if there is one, and the blocks and buffers of the one before.
pub(super) struct InFlight {
    /// The process that its thread belongs to.
    process: u32,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    thread: Option<JoinHandle<Done>>,
    /// Blocks that were written.
    written: Vec<OwnedSealJob>,
    buffers: Buffers,
}

/// The outcome of a write, with the memory that it used.
struct Done {
    outcome: Result<()>,
    jobs: Vec<OwnedSealJob>,
    buffers: Buffers,
}

impl Inner {
    fn take_over(&mut self, Done { outcome, jobs, buffers }: Done) -> Result<()> {
        (self.written, self.buffers) = (jobs, buffers);
        outcome
    }
}

impl InFlight {
    pub(super) fn new() -> InFlight {
        InFlight { process: process::id(), inner: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes blocks, and returns when that is done. No write is in flight.
    pub(super) fn write_now(
        &self,
        store: &Store,
        kind: KeyKind,
        generation: Generation,
        jobs: &[SealJob<'_>],
        targets: &[Position],
    ) -> Result<()> {
        self.with(|inner| {
            let buffers = &mut inner.buffers;
            let outcome = pipeline::seal_and_write(store, buffers, kind, generation, jobs, targets);
            store.poisoning(outcome)
        })
    }

    /// Starts to write data blocks to their positions. No write is in flight. Returns the blocks of the write before.
    ///
    /// Few blocks, and any in a pool of one thread, are written before it returns.
    pub(super) fn start(
        &self,
        store: &Arc<Store>,
        generation: Generation,
        jobs: Vec<OwnedSealJob>,
    ) -> Result<Vec<OwnedSealJob>> {
        self.with(|inner| {
            let written = std::mem::take(&mut inner.written);
            let is_small = jobs.len() < LARGE_BLOCKS;
            let buffers = std::mem::take(&mut inner.buffers);
            let work = Work { store: Arc::clone(store), generation, jobs, buffers };
            if is_small || is_single_threaded() {
                inner.take_over(work.run())?;
                return Ok(written);
            }
            // The work is handed over only once there is a thread: if none can be started, it is done here.
            let work = Arc::new(Mutex::new(Some(work)));
            let taken = Arc::clone(&work);
            let run = move || take(&taken).run();
            match thread::Builder::new().name("ar7 write".into()).spawn(run) {
                Ok(handle) => inner.thread = Some(handle),
                Err(_) => inner.take_over(take(&work).run())?,
            }
            Ok(written)
        })
    }

    /// Waits for the in-flight write, and passes on its failure or its panic.
    pub(super) fn wait(&self, store: &Store) -> Result<()> {
        if self.is_forked() {
            // This process has no such thread, and the lock is as a thread of the other one may have left it.
            return Ok(());
        }
        let outcome = self.with(|inner| match inner.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => Ok(inner.take_over(done)),
            Some(Err(panic)) => Err(panic),
            None => Ok(Ok(())),
        });
        outcome.unwrap_or_else(|panic| {
            let source = io::Error::other("the thread that wrote panicked");
            // Positions are given out for all of it, and which blocks were written is unknown.
            let _ = store.poisoning::<()>(Err(Error::io("write", source)));
            resume_unwind(panic)
        })
    }

    /// Whether this is a forked process, which has the memory of the one that writes, but not its threads.
    fn is_forked(&self) -> bool {
        self.process != process::id()
    }

    /// Wipes the blocks that were written.
    pub(super) fn forget(&self) {
        self.with(|inner| inner.written.clear());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let is_forked = self.is_forked();
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        match inner.thread.take() {
            // After a fork the thread does not exist here; forget the handle rather than detach it.
            Some(thread) if is_forked => std::mem::forget(thread),
            // The file must not be unlocked while it is still written to. A caller that needs the outcome has waited.
            Some(thread) => drop(thread.join()),
            None => {}
        }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InFlight").finish_non_exhaustive()
    }
}

/// A write, with everything that it needs.
struct Work {
    store: Arc<Store>,
    generation: Generation,
    jobs: Vec<OwnedSealJob>,
    buffers: Buffers,
}

fn take(work: &Mutex<Option<Work>>) -> Work {
    work.lock().unwrap_or_else(PoisonError::into_inner).take().expect("work that was not taken")
}

impl Work {
    fn run(self) -> Done {
        let Work { store, generation, jobs, mut buffers } = self;
        let borrowed: Vec<SealJob<'_>> = jobs.iter().map(OwnedSealJob::as_job).collect();
        let targets: Vec<Position> = jobs.iter().map(|job| job.position).collect();
        let kind = KeyKind::Data;
        let outcome =
            pipeline::seal_and_write(&store, &mut buffers, kind, generation, &borrowed, &targets);
        let outcome = store.poisoning(outcome);
        Done { outcome, jobs, buffers }
    }
}

#[cfg(test)]
impl InFlight {
    pub(super) fn buffers_len(&self) -> usize {
        self.with(|inner| inner.buffers.len())
    }

    /// Where the buffers lie, in order.
    pub(super) fn buffer_addresses(&self) -> std::collections::BTreeSet<usize> {
        self.with(|inner| inner.buffers.addresses())
    }
}
