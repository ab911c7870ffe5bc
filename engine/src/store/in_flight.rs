//! A large write that goes on while its writer does other things.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use super::pipeline::{self, Buffers, LARGE_BLOCKS};
use super::{Writer, process};
use crate::crypto::{KeyKind, SealJob};
use crate::error::{Error, Result};
use crate::format::{BlockHead, Generation, OwnedData, Position};
use crate::parallel::is_single_threaded;

/// A block to be sealed, with its data.
#[derive(Debug)]
pub struct OwnedSealJob {
    /// Place for which it is sealed.
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

/// The write under way, if there is one, and what the one before left.
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

/// What a write leaves.
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

    /// Waits for the write under way; if it panicked, what with.
    fn wait(&self) -> thread::Result<Result<()>> {
        if self.is_forked() {
            // Nobody here writes, and the lock is as another thread there may have left it.
            return Ok(Ok(()));
        }
        self.with(|inner| match inner.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => Ok(inner.take_over(done)),
            Some(Err(panic)) => Err(panic),
            None => Ok(Ok(())),
        })
    }

    /// Whether this is a forked process, which has memory like that of the one that writes, but not its threads.
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
            // There is no such thread here, and perhaps another with its number: it is not even let go of.
            Some(thread) if is_forked => std::mem::forget(thread),
            // Nobody is to find the file free while it is still written to. Whoever cares for the outcome has waited.
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

impl Writer {
    /// Seals data blocks and writes them to their positions, which are fresh. Returns their generation, and perhaps before
    /// they are written: [`Writer::wait`] comes before they are read, and before whatever else is written. A commit waits.
    ///
    /// Returns the blocks of the call before, too, which are written now: their memory can be used again.
    pub fn start_fresh(
        &mut self,
        jobs: Vec<OwnedSealJob>,
    ) -> Result<(Generation, Vec<OwnedSealJob>)> {
        self.wait()?;
        self.store.check_usable()?;
        for job in &jobs {
            assert!(self.is_fresh(job.position), "only a fresh block is written in place");
        }
        let written = self.in_flight.with(|inner| std::mem::take(&mut inner.written));
        if jobs.len() < LARGE_BLOCKS || is_single_threaded() {
            let borrowed: Vec<SealJob<'_>> = jobs.iter().map(OwnedSealJob::as_job).collect();
            let generation = self.write_fresh(KeyKind::Data, &borrowed)?;
            drop(borrowed);
            self.in_flight.with(|inner| inner.written = jobs);
            return Ok((generation, written));
        }
        let generation = self.generation_for(jobs.iter().map(|job| job.position))?;
        self.start(generation, jobs)?;
        Ok((generation, written))
    }

    fn start(&self, generation: Generation, jobs: Vec<OwnedSealJob>) -> Result<()> {
        self.in_flight.with(|inner| {
            let work = Work {
                store: Arc::clone(&self.store),
                generation,
                jobs,
                buffers: std::mem::take(&mut inner.buffers),
            };
            // Where no thread is to be had, it is done here: so the work is handed over only once there is one.
            let work = Arc::new(Mutex::new(Some(work)));
            let taken = Arc::clone(&work);
            let run = move || take(&taken).run();
            match thread::Builder::new().name("ar7 write".into()).spawn(run) {
                Ok(handle) => {
                    inner.thread = Some(handle);
                    Ok(())
                }
                Err(_) => inner.take_over(take(&work).run()),
            }
        })
    }

    /// Returns once no write is under way. Its failure has made the store unusable.
    ///
    /// # Panics
    ///
    /// If the thread that wrote did; the store is unusable then, too.
    pub fn wait(&self) -> Result<()> {
        if crate::fault!(ForgetTheWrite) {
            return Ok(());
        }
        self.in_flight.wait().unwrap_or_else(|panic| {
            let source = io::Error::other("the thread that wrote panicked");
            // Nobody knows what is written, and positions are already given out for all of it.
            let _ = self.store.poisoning::<()>(Err(Error::io("write", source)));
            resume_unwind(panic)
        })
    }

    /// Seals and writes a large number of blocks, and returns when that is done.
    pub(super) fn write_large(
        &self,
        kind: KeyKind,
        generation: Generation,
        jobs: &[SealJob<'_>],
        targets: &[Position],
    ) -> Result<()> {
        self.in_flight.with(|inner| {
            let buffers = &mut inner.buffers;
            let store = &*self.store;
            let outcome = pipeline::seal_and_write(store, buffers, kind, generation, jobs, targets);
            store.poisoning(outcome)
        })
    }
}

/// A write, with everything that it needs.
struct Work {
    store: Arc<super::Store>,
    generation: Generation,
    jobs: Vec<OwnedSealJob>,
    buffers: Buffers,
}

fn take(work: &Mutex<Option<Work>>) -> Work {
    work.lock().unwrap_or_else(PoisonError::into_inner).take().expect("work that nobody has taken")
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
