//! A large write that goes on while its writer does other things.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::pipeline::{self, Buffers, LARGE_BLOCKS};
use super::{Writer, process};
use crate::crypto::{KeyKind, SealJob};
use crate::error::Result;
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
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    thread: Option<WriteThread>,
    /// Blocks that were written.
    written: Vec<OwnedSealJob>,
    buffers: Buffers,
}

/// A thread, and the process that it belongs to.
struct WriteThread {
    process: u32,
    handle: JoinHandle<Done>,
}

impl WriteThread {
    /// What the thread leaves; nothing in a forked process, which has no such thread.
    fn join(self) -> Option<thread::Result<Done>> {
        (self.process == process::id()).then(|| self.handle.join())
    }
}

/// What a write leaves.
struct Done {
    outcome: Result<()>,
    jobs: Vec<OwnedSealJob>,
    buffers: Buffers,
}

impl Inner {
    fn wait(&mut self) -> Result<()> {
        match self.thread.take().and_then(WriteThread::join) {
            Some(done) => self.take_over(done.unwrap_or_else(|panic| resume_unwind(panic))),
            None => Ok(()),
        }
    }

    fn take_over(&mut self, Done { outcome, jobs, buffers }: Done) -> Result<()> {
        (self.written, self.buffers) = (jobs, buffers);
        outcome
    }
}

impl UnderWay {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wipes the blocks that were written.
    pub(super) fn forget(&self) {
        self.with(|inner| inner.written.clear());
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // Nobody is to find the file free while it is still written to. Whoever cares for the outcome has waited.
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(inner.thread.take().map(WriteThread::join));
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("UnderWay").finish_non_exhaustive()
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
        let written = self.under_way.with(|inner| std::mem::take(&mut inner.written));
        if jobs.len() < LARGE_BLOCKS || is_single_threaded() {
            let borrowed: Vec<SealJob<'_>> = jobs.iter().map(OwnedSealJob::as_job).collect();
            let generation = self.write_fresh(KeyKind::Data, &borrowed)?;
            drop(borrowed);
            self.under_way.with(|inner| inner.written = jobs);
            return Ok((generation, written));
        }
        let generation = self.generation_for(jobs.iter().map(|job| job.position))?;
        self.start(generation, jobs)?;
        Ok((generation, written))
    }

    fn start(&self, generation: Generation, jobs: Vec<OwnedSealJob>) -> Result<()> {
        self.under_way.with(|inner| {
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
                    inner.thread = Some(WriteThread { process: process::id(), handle });
                    Ok(())
                }
                Err(_) => inner.take_over(take(&work).run()),
            }
        })
    }

    /// Returns once no write is under way. Its failure has made the store unusable.
    pub fn wait(&self) -> Result<()> {
        self.under_way.with(Inner::wait)
    }

    /// Seals and writes a large number of blocks, and returns when that is done.
    pub(super) fn write_large(
        &self,
        kind: KeyKind,
        generation: Generation,
        jobs: &[SealJob<'_>],
        targets: &[Position],
    ) -> Result<()> {
        self.under_way.with(|inner| {
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
impl UnderWay {
    pub(super) fn buffers_len(&self) -> usize {
        self.with(|inner| inner.buffers.len())
    }

    /// Where the buffers lie, in order.
    pub(super) fn buffer_addresses(&self) -> std::collections::BTreeSet<usize> {
        self.with(|inner| inner.buffers.addresses())
    }
}
