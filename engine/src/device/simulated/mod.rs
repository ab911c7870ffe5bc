//! A simulated disk: it fails, loses, tears and corrupts writes as real disks do, and a test can examine every state
//! that results.
//!
//! [`SimulatedDisk`] is the device. It keeps a [`Medium`], which knows which writes are durable, and a log of events.
//! From the log, a test derives every state that a crash at any moment leaves.

mod medium;
mod sealed;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Device, LockTable, Locks, bytes_u64, device_bytes, refused, region_end};
use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, Position};
use crate::{Error, Result};

pub use medium::{Cut, Kept, Medium, Uncertain};
pub use sealed::SealedBlocks;

use medium::{Content, Version};

/// A simulated disk. A clone is another open of the same disk, with locks of its own.
#[derive(Debug, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
    table: LockTable,
    locks: OnceLock<Arc<dyn Locks>>,
}

/// Called after each event. Its reads of the disk cause no further call.
struct Hook(Box<dyn FnMut() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Hook")
    }
}

impl Clone for SimulatedDisk {
    fn clone(&self) -> SimulatedDisk {
        let (state, hook) = (Arc::clone(&self.state), Arc::clone(&self.hook));
        SimulatedDisk { state, hook, table: self.table.clone(), locks: OnceLock::new() }
    }
}

#[derive(Debug, Default)]
struct State {
    medium: Medium,
    log: Vec<Event>,
    sealed: SealedBlocks,
    faults: Vec<PlannedFault>,
    unreadable: Vec<u32>,
    capacity: Option<u32>,
    resealing: bool,
}

/// A change of the disk, or a mark of the test.
#[derive(Debug, Clone)]
pub struct Event(Change);

#[derive(Debug, Clone)]
enum Change {
    Write { position: u32, content: Version },
    Length(u32),
    Sync,
    Mark(u64),
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A block was written at this position.
    Write(u32),
    /// The file got this length, in blocks.
    Length(u32),
    /// A sync made everything durable.
    Sync,
    /// The test called [`SimulatedDisk::mark`] with this number.
    Mark(u64),
}

/// A fault of an operation of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// The write fails, and nothing is written.
    WriteFails,
    /// The write fails after half of a block.
    WriteIsShort,
    /// The sync fails: earlier writes never become durable unless they are repeated.
    SyncFails,
    /// Growing fails, because the disk is full.
    NoSpace,
    /// The write succeeds, but is lost.
    WriteIsLost,
    /// The write succeeds, but goes to this position instead.
    WriteIsMisplaced(u32),
}

#[derive(Debug, Clone, Copy)]
struct PlannedFault {
    fault: DiskFault,
    /// Number of operations of its kind that succeed first.
    left: u64,
    fired: bool,
}

impl Event {
    /// Returns the event's kind.
    pub fn kind(&self) -> EventKind {
        match self.0 {
            Change::Write { position, .. } => EventKind::Write(position),
            Change::Length(length) => EventKind::Length(length),
            Change::Sync => EventKind::Sync,
            Change::Mark(mark) => EventKind::Mark(mark),
        }
    }
}

impl Medium {
    /// Applies the event to this medium.
    pub fn apply(&mut self, event: &Event) {
        match &event.0 {
            Change::Write { position, content } => self.write(*position, content),
            Change::Length(length) => self.set_length(*length),
            Change::Sync => self.sync(),
            Change::Mark(_) => {}
        }
    }

    /// Returns whether reads already see the result of the event.
    pub fn shows(&self, event: &Event) -> bool {
        match &event.0 {
            Change::Write { position, content } => {
                let number = |content: &Arc<Content>| content.number();
                self.seen(*position).map(number) == content.as_ref().map(number)
            }
            Change::Length(length) => self.length() == *length,
            Change::Sync | Change::Mark(_) => true,
        }
    }
}

impl SimulatedDisk {
    /// Creates an empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// Creates a disk with the content of `medium`. `sealed` records the blocks that were sealed on it before.
    pub fn with(medium: Medium, sealed: &SealedBlocks) -> SimulatedDisk {
        let state = State { medium, sealed: sealed.continued(), ..State::default() };
        SimulatedDisk { state: Arc::new(Mutex::new(state)), ..SimulatedDisk::default() }
    }

    /// Returns the state of the disk and of its cache.
    pub fn medium(&self) -> Medium {
        self.state().medium.clone()
    }

    /// Returns every event since the disk was created.
    pub fn log(&self) -> Vec<Event> {
        self.state().log.clone()
    }

    /// Returns the record of all blocks that were sealed on this disk.
    pub fn sealed(&self) -> SealedBlocks {
        self.state().sealed.clone()
    }

    /// Sets whether blocks may be sealed again with the same generation, as a change of the master key does. No nonce
    /// may repeat in either case.
    pub fn set_resealing(&self, resealing: bool) {
        self.state().resealing = resealing;
    }

    /// Adds a mark of the test to the log.
    pub fn mark(&self, mark: u64) {
        self.state().log.push(Event(Change::Mark(mark)));
    }

    /// Plans a fault for an operation of its kind, after `left` more that succeed.
    pub fn plan(&self, fault: DiskFault, left: u64) {
        self.state().faults.push(PlannedFault { fault, left, fired: false });
    }

    /// Cancels the planned faults that have not occurred.
    pub fn cancel_faults(&self) {
        self.state().faults.retain(|planned| planned.fired);
    }

    /// Returns whether every planned fault has occurred.
    pub fn all_fired(&self) -> bool {
        self.state().faults.iter().all(|planned| planned.fired)
    }

    /// Limits the length of the file to this many blocks. `None` removes the limit.
    pub fn set_capacity(&self, blocks: Option<u32>) {
        self.state().capacity = blocks;
    }

    /// Makes every later read of this block fail.
    pub fn make_unreadable(&self, position: u32) {
        self.state().unreadable.push(position);
    }

    /// Sets what to call after each event.
    pub fn on_event(&self, hook: Option<Box<dyn FnMut() + Send>>) {
        *self.hook() = hook.map(Hook);
    }

    fn notify(&self) {
        // Taken out meanwhile: the hook may use the disk.
        let Some(mut hook) = self.hook().take() else { return };
        (hook.0)();
        self.hook().get_or_insert(hook);
    }

    fn hook(&self) -> MutexGuard<'_, Option<Hook>> {
        self.hook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, change: Change) {
        let event = Event(change);
        self.medium.apply(&event);
        self.log.push(event);
    }

    /// Returns the fault planned for this operation, if any.
    fn fault(&mut self, is_of_kind: impl Fn(DiskFault) -> bool) -> Option<DiskFault> {
        let mut due = None;
        for planned in self.faults.iter_mut().filter(|planned| is_of_kind(planned.fault)) {
            if planned.fired {
                continue;
            }
            if planned.left > 0 {
                planned.left -= 1;
            } else {
                planned.fired = true;
                due = Some(planned.fault);
            }
        }
        due
    }

    fn write_block(&mut self, position: u32, bytes: &[u8; BLOCK_SIZE]) -> Result<()> {
        let content = Arc::new(Content::new(bytes));
        self.sealed.note(position, &content, self.resealing);
        let fault = self.fault(|fault| !matches!(fault, DiskFault::SyncFails | DiskFault::NoSpace));
        let mut target = position;
        match fault {
            Some(DiskFault::WriteFails) => return Err(failed("write")),
            Some(DiskFault::WriteIsLost) => return Ok(()),
            Some(DiskFault::WriteIsMisplaced(other)) => target = other,
            Some(DiskFault::WriteIsShort) => {
                let seen = self.medium.seen(position);
                let mut short = seen.map_or([0; BLOCK_SIZE], |seen| seen.bytes);
                let half = BLOCK_SIZE / 2;
                short[..half].copy_from_slice(&bytes[..half]);
                let content = Some(Arc::new(Content::new(&short)));
                self.record(Change::Write { position, content });
                return Err(failed("write"));
            }
            Some(DiskFault::SyncFails | DiskFault::NoSpace) | None => {}
        }
        self.record(Change::Write { position: target, content: Some(content) });
        Ok(())
    }

    /// Applies a failed sync: every other uncertain block reaches the disk.
    fn fail_sync(&mut self) {
        let kept = (0..)
            .zip(self.medium.uncertain())
            .map(|(at, block)| Kept::Whole(if at % 2 == 0 { 0 } else { block.versions - 1 }));
        let cut = Cut { length: 0, kept: kept.collect() };
        self.medium = self.medium.after_failed_sync(&cut);
    }
}

impl Device for SimulatedDisk {
    fn locks(&self) -> Arc<dyn Locks> {
        Arc::clone(self.locks.get_or_init(|| self.table.open()))
    }

    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        let state = self.state();
        let length_bytes = u64::from(state.medium.length()) * BLOCK_SIZE_U64;
        region_end(start, bytes.len(), length_bytes)?;
        for (position, block) in (start.get()..).zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            if state.unreadable.contains(&position) {
                return Err(failed("read"));
            }
            match state.medium.seen(position) {
                Some(content) => block.copy_from_slice(&content.bytes),
                None => block.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        let length_bytes = self.length_bytes()?;
        region_end(start, bytes.len(), length_bytes)?;
        for (position, block) in (start.get()..).zip(bytes.chunks_exact(BLOCK_SIZE)) {
            let block = block.try_into().expect("chunks of a block");
            self.state().write_block(position, block)?;
            self.notify();
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.state();
        if state.fault(|fault| fault == DiskFault::SyncFails).is_some() {
            state.fail_sync();
            return Err(failed("sync"));
        }
        state.record(Change::Sync);
        drop(state);
        self.notify();
        Ok(())
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        device_bytes(blocks)?;
        let mut state = self.state();
        if blocks <= state.medium.length() {
            return Ok(());
        }
        let is_full = state.capacity.is_some_and(|capacity| blocks > capacity);
        if state.fault(|fault| fault == DiskFault::NoSpace).is_some() || is_full {
            let needed = blocks - state.medium.length();
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(refused("grow", None, needed.into(), source));
        }
        state.record(Change::Length(blocks));
        drop(state);
        self.notify();
        Ok(())
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        let mut state = self.state();
        if blocks < state.medium.length() {
            state.record(Change::Length(blocks));
            drop(state);
            self.notify();
        }
        Ok(())
    }

    fn length_bytes(&self) -> Result<u64> {
        Ok(bytes_u64(BLOCK_SIZE) * u64::from(self.state().medium.length()))
    }
}

fn failed(operation: &'static str) -> Error {
    Error::io(operation, io::Error::other("the simulated disk failed"))
}
