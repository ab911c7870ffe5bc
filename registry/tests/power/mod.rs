//! A disk that remembers what was done to it, and what a power cut may leave of that.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ar7_engine::device::Device;
use ar7_engine::format::{BLOCK_SIZE, BLOCK_SIZE_U64, Position};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// What was done to the disk, in order.
#[derive(Clone)]
pub(crate) enum Event {
    Write(u32, Arc<[u8; BLOCK_SIZE]>),
    Length(u32),
    Sync,
    /// The commit with this number was acknowledged.
    Acknowledged(usize),
}

/// A disk that remembers everything that was done to it.
#[derive(Clone, Default)]
pub(crate) struct Recorder(pub(crate) Arc<Mutex<Recorded>>);

#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) disk: Disk,
    events: Vec<Event>,
}

#[derive(Clone, Default, PartialEq)]
pub(crate) struct Disk {
    pub(crate) blocks: BTreeMap<u32, Arc<[u8; BLOCK_SIZE]>>,
    pub(crate) length: u32,
}

impl Disk {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Write(at, bytes) => {
                self.blocks.insert(*at, Arc::clone(bytes));
            }
            Event::Length(length) => {
                self.length = *length;
                self.blocks.split_off(length);
            }
            Event::Sync | Event::Acknowledged(_) => {}
        }
    }
}

impl Recorder {
    pub(crate) fn on(disk: Disk) -> Recorder {
        Recorder(Arc::new(Mutex::new(Recorded { disk, events: Vec::new() })))
    }

    pub(crate) fn record(&self, event: Event) {
        let mut recorded = self.0.lock().unwrap();
        recorded.disk.apply(&event);
        recorded.events.push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().events.clone()
    }
}

impl Device for Recorder {
    fn read(&self, start: Position, bytes: &mut [u8]) -> ar7_engine::Result<()> {
        let recorded = self.0.lock().unwrap();
        for (at, block) in (start.get()..).zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            if at >= recorded.disk.length {
                let found_bytes = u64::from(recorded.disk.length) * BLOCK_SIZE_U64;
                let expected_bytes = (u64::from(at) + 1) * BLOCK_SIZE_U64;
                return Err(ar7_engine::Error::Truncated { expected_bytes, found_bytes });
            }
            match recorded.disk.blocks.get(&at) {
                Some(found) => block.copy_from_slice(&found[..]),
                None => block.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, start: Position, bytes: &[u8]) -> ar7_engine::Result<()> {
        for (at, block) in (start.get()..).zip(bytes.chunks_exact(BLOCK_SIZE)) {
            self.record(Event::Write(at, Arc::new(block.try_into().unwrap())));
        }
        Ok(())
    }

    fn sync(&self) -> ar7_engine::Result<()> {
        self.record(Event::Sync);
        Ok(())
    }

    fn grow(&self, blocks: u32) -> ar7_engine::Result<()> {
        if blocks > self.0.lock().unwrap().disk.length {
            self.record(Event::Length(blocks));
        }
        Ok(())
    }

    fn shrink(&self, blocks: u32) -> ar7_engine::Result<()> {
        if blocks < self.0.lock().unwrap().disk.length {
            self.record(Event::Length(blocks));
        }
        Ok(())
    }

    fn length_bytes(&self) -> ar7_engine::Result<u64> {
        Ok(u64::from(self.0.lock().unwrap().disk.length) * BLOCK_SIZE_U64)
    }
}

/// What a power cut after `events` may leave of them on `disk`: all that was synced, and of the rest any part, in
/// any order, torn anywhere.
pub(crate) fn cut(disk: &Disk, events: &[Event], random: &mut ChaCha8Rng) -> Disk {
    let synced = events.iter().rposition(|event| matches!(event, Event::Sync));
    let (durable, rest) = events.split_at(synced.map_or(0, |at| at + 1));
    let mut left = disk.clone();
    for event in durable {
        left.apply(event);
    }
    let kept = random.next_u32() % 5;
    for event in rest {
        if random.next_u32() % 4 >= kept {
            continue;
        }
        match event {
            Event::Write(at, bytes) if random.next_u32().is_multiple_of(8) => {
                // Torn: some sectors are new, the others as they were.
                let before = left.blocks.get(at).cloned();
                let mut torn = before.map_or([0; BLOCK_SIZE], |before| *before);
                for (old, new) in torn.chunks_mut(512).zip(bytes.chunks(512)) {
                    if random.next_u32().is_multiple_of(2) {
                        old.copy_from_slice(new);
                    }
                }
                left.apply(&Event::Write(*at, Arc::new(torn)));
            }
            event => left.apply(event),
        }
    }
    left.blocks.split_off(&left.length);
    left
}
