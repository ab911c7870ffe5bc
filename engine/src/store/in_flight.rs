//! The in-flight write: a large write that continues in another thread while the writer does other work.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{fmt, io};

use super::handle::Store;
use super::pipeline::{self, Batch, Buffers, LARGE_BLOCKS};
use crate::crypto::{KeyKind, SealJob};
use crate::error::{Error, Result};
use crate::format::{BlockHead, Generation, OwnedData, Position};
use crate::parallel::{is_single_threaded, thread_builder};
use crate::process;

/// A block to be sealed, which owns its data.
#[derive(Debug)]
pub struct OwnedSealJob {
    /// The position to seal it for.
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

/// The in-flight write, if any, and the blocks and buffers of the one before.
pub(super) struct InFlight {
    /// The process that started the thread.
    process: u32,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    thread: Option<JoinHandle<Done>>,
    /// The blocks of the last completed write.
    written: Vec<OwnedSealJob>,
    buffers: Buffers,
}

/// The outcome of a write, and the memory that it returns.
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

    /// Seals and writes blocks before it returns. The caller ensures that no write is in flight.
    pub(super) fn write_now(&self, store: &Store, batch: Batch<'_>) -> Result<()> {
        self.with(|inner| {
            store.poisoning(pipeline::seal_and_write(store, &mut inner.buffers, batch))
        })
    }

    /// Starts to seal data blocks and write them to their positions. The caller ensures that no write is in flight.
    /// Returns the blocks of the write before.
    ///
    /// A small batch, and any batch in a pool of one thread, is written before it returns.
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
            // The thread takes the work only once it runs: if the thread cannot start, this one does the work.
            let work = Arc::new(Mutex::new(Some(work)));
            let taken = Arc::clone(&work);
            let run = move || take(&taken).run();
            match thread_builder().name("ar7 write".into()).spawn(run) {
                Ok(handle) => inner.thread = Some(handle),
                Err(_) => inner.take_over(take(&work).run())?,
            }
            Ok(written)
        })
    }

    /// Waits for the in-flight write, and passes on its error or panic.
    pub(super) fn wait(&self, store: &Store) -> Result<()> {
        if self.is_forked() {
            // This process does not have the thread, and the lock may be in any state in which a thread of the parent
            // left it.
            return Ok(());
        }
        let outcome = self.with(|inner| match inner.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => Ok(inner.take_over(done)),
            Some(Err(panic)) => Err(panic),
            None => Ok(Ok(())),
        });
        outcome.unwrap_or_else(|panic| {
            let source = io::Error::other("the writing thread panicked");
            // All its positions are allocated, and nobody knows which blocks were written.
            let _ = store.poisoning::<()>(Err(Error::io("write", source)));
            resume_unwind(panic)
        })
    }

    /// Returns whether this is a forked process, which has the memory of the parent but not its threads.
    fn is_forked(&self) -> bool {
        self.process != process::id()
    }

    /// Wipes the blocks of the last completed write.
    pub(super) fn forget(&self) {
        self.with(|inner| inner.written.clear());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let is_forked = self.is_forked();
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        match inner.thread.take() {
            // The thread does not exist in a forked process: detaching the handle would touch it, so forget the
            // handle.
            Some(thread) if is_forked => std::mem::forget(thread),
            // The file must not be unlocked while the thread writes to it. A caller that needs the outcome has
            // already waited.
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

/// A write with everything that its thread needs.
struct Work {
    store: Arc<Store>,
    generation: Generation,
    jobs: Vec<OwnedSealJob>,
    buffers: Buffers,
}

fn take(work: &Mutex<Option<Work>>) -> Work {
    work.lock().unwrap_or_else(PoisonError::into_inner).take().expect("work that no thread took")
}

impl Work {
    fn run(self) -> Done {
        let Work { store, generation, jobs, mut buffers } = self;
        let borrowed: Vec<SealJob<'_>> = jobs.iter().map(OwnedSealJob::as_job).collect();
        let targets: Vec<Position> = jobs.iter().map(|job| job.position).collect();
        let batch = Batch { kind: KeyKind::Data, generation, jobs: &borrowed, targets: &targets };
        let outcome = pipeline::seal_and_write(&store, &mut buffers, batch);
        let outcome = store.poisoning(outcome);
        Done { outcome, jobs, buffers }
    }
}

#[cfg(test)]
impl InFlight {
    pub(super) fn buffers_len(&self) -> usize {
        self.with(|inner| inner.buffers.len())
    }

    /// Returns the addresses of the buffers, in order.
    pub(super) fn buffer_addresses(&self) -> std::collections::BTreeSet<usize> {
        self.with(|inner| inner.buffers.addresses())
    }
}
