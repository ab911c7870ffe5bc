//! A disk that dies, loses, tears and rots as real ones do, so that a test can look at everything that is left.
//!
//! [`SimulatedDisk`] is the device. It keeps a [`Medium`], which knows what is durable and what is not, and a log of
//! what was done to it, from which a test makes every state that a death at any moment leaves.

mod medium;
mod sealed;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Device, bytes_u64, device_bytes, refused, region_end};
use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, Position};
use crate::{Error, Result};

pub use medium::{Cut, Kept, Medium, Uncertain};
pub use sealed::SealedBlocks;

use medium::{Content, Version};

/// A simulated disk. A clone is another handle of the same.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

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

/// Something that was done to the disk.
#[derive(Debug, Clone)]
pub struct Event(Deed);

#[derive(Debug, Clone)]
enum Deed {
    Write { position: u32, content: Version },
    Length(u32),
    Sync,
    Mark(u64),
}

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A block was written at this position.
    Write(u32),
    /// The file was given this length, in blocks.
    Length(u32),
    /// Everything was made durable.
    Sync,
    /// What [`SimulatedDisk::mark`] was told.
    Mark(u64),
}

/// How an operation of the disk goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// The write fails, and nothing is written.
    WriteFails,
    /// The write fails when half of a block is written.
    WriteIsShort,
    /// The sync fails: what was written is never durable unless it is written again.
    SyncFails,
    /// There is no room to grow.
    NoSpace,
    /// The write is acknowledged and lost.
    WriteIsLost,
    /// The write is acknowledged and lands at this position instead.
    WriteIsMisplaced(u32),
}

#[derive(Debug, Clone, Copy)]
struct PlannedFault {
    fault: DiskFault,
    /// Operations of its kind that still go well.
    left: u64,
    fired: bool,
}

impl Event {
    /// What kind of event it is.
    pub fn kind(&self) -> EventKind {
        match self.0 {
            Deed::Write { position, .. } => EventKind::Write(position),
            Deed::Length(length) => EventKind::Length(length),
            Deed::Sync => EventKind::Sync,
            Deed::Mark(mark) => EventKind::Mark(mark),
        }
    }
}

impl Medium {
    /// Does to this medium what the event did to another.
    pub fn apply(&mut self, event: &Event) {
        match &event.0 {
            Deed::Write { position, content } => self.write(*position, content),
            Deed::Length(length) => self.set_length(*length),
            Deed::Sync => self.sync(),
            Deed::Mark(_) => {}
        }
    }

    /// Whether reads see already what the event writes.
    pub fn shows(&self, event: &Event) -> bool {
        match &event.0 {
            Deed::Write { position, content } => {
                let number = |content: &Arc<Content>| content.number();
                self.seen(*position).map(number) == content.as_ref().map(number)
            }
            Deed::Length(length) => self.length() == *length,
            Deed::Sync | Deed::Mark(_) => true,
        }
    }
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// A disk with this on it. `sealed` is what was sealed on it before.
    pub fn with(medium: Medium, sealed: &SealedBlocks) -> SimulatedDisk {
        let state = State { medium, sealed: sealed.continued(), ..State::default() };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    /// What is on the disk and on its way there.
    pub fn medium(&self) -> Medium {
        self.state().medium.clone()
    }

    /// Everything that was done to the disk since it was made.
    pub fn log(&self) -> Vec<Event> {
        self.state().log.clone()
    }

    /// Every block that was sealed on this disk.
    pub fn sealed(&self) -> SealedBlocks {
        self.state().sealed.clone()
    }

    /// From now on blocks may be sealed anew under the generation that they have, as they are while the master key is
    /// changed; or, with false, they may not any more. No nonce may come again in either case.
    pub fn set_resealing(&self, resealing: bool) {
        self.state().resealing = resealing;
    }

    /// Notes something of the test's own in the log.
    pub fn mark(&self, mark: u64) {
        self.state().log.push(Event(Deed::Mark(mark)));
    }

    /// Plans a fault for an operation of its kind, after `left` more that go well.
    pub fn plan(&self, fault: DiskFault, left: u64) {
        self.state().faults.push(PlannedFault { fault, left, fired: false });
    }

    /// Whether every fault that was planned has happened.
    pub fn all_fired(&self) -> bool {
        self.state().faults.iter().all(|planned| planned.fired)
    }

    /// From now on the file cannot be longer than this many blocks; any length with `None`.
    pub fn set_capacity(&self, blocks: Option<u32>) {
        self.state().capacity = blocks;
    }

    /// From now on reading this block is an error.
    pub fn make_unreadable(&self, position: u32) {
        self.state().unreadable.push(position);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, deed: Deed) {
        let event = Event(deed);
        self.medium.apply(&event);
        self.log.push(event);
    }

    /// The fault of this operation, if one was planned.
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
                self.record(Deed::Write { position, content });
                return Err(failed("write"));
            }
            Some(DiskFault::SyncFails | DiskFault::NoSpace) | None => {}
        }
        self.record(Deed::Write { position: target, content: Some(content) });
        Ok(())
    }

    /// A sync that fails: the disk holds every other block of what was written.
    fn fail_sync(&mut self) {
        let kept = (0..)
            .zip(self.medium.uncertain())
            .map(|(at, block)| Kept::Whole(if at % 2 == 0 { 0 } else { block.versions - 1 }));
        let cut = Cut { length: 0, kept: kept.collect() };
        self.medium = self.medium.after_failed_sync(&cut);
    }
}

impl Device for SimulatedDisk {
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
        let mut state = self.state();
        let length_bytes = u64::from(state.medium.length()) * BLOCK_SIZE_U64;
        region_end(start, bytes.len(), length_bytes)?;
        for (position, block) in (start.get()..).zip(bytes.chunks_exact(BLOCK_SIZE)) {
            state.write_block(position, block.try_into().expect("chunks of a block"))?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.state();
        if state.fault(|fault| fault == DiskFault::SyncFails).is_some() {
            state.fail_sync();
            return Err(failed("sync"));
        }
        state.record(Deed::Sync);
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
        state.record(Deed::Length(blocks));
        Ok(())
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        let mut state = self.state();
        if blocks < state.medium.length() {
            state.record(Deed::Length(blocks));
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
