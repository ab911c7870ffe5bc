//! In-flight writes: the writer does other work meanwhile, and everything that relies on the write waits for it.

use std::panic::AssertUnwindSafe;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::faults::{Fault, Faulty, assert_poisoned};
use super::*;
use crate::error::Error;
use crate::format::{BlockIndex, Generation, OwnedData};
use crate::store::pipeline::LARGE_BLOCKS;

/// Blocks of a large write.
const BLOCKS: u32 = 1024 + 300;

/// The longest that a device holds writes back: a deadlocked test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// The time that a device holds a write back while something waits for it.
const A_WHILE: Duration = Duration::from_millis(100);

/// A device that holds large writes back until it releases them.
#[derive(Clone)]
struct Holding {
    device: MemoryDevice,
    shared: Arc<(Mutex<Held>, Condvar)>,
}

#[derive(Default)]
struct Held {
    is_holding: bool,
    /// Whether large writes panic.
    is_broken: bool,
    /// Large writes that have begun and not ended.
    in_flight: u32,
    /// Blocks of completed large writes.
    written: usize,
}

impl Holding {
    fn new() -> Holding {
        let (device, _, mut writer) = create();
        commit(&mut writer, 1).unwrap();
        writer.finish().unwrap();
        Holding { device, shared: Arc::default() }
    }

    fn hold(&self) {
        self.shared.0.lock().unwrap().is_holding = true;
    }

    fn release(&self) {
        self.shared.0.lock().unwrap().is_holding = false;
        self.shared.1.notify_all();
    }

    fn release_after_a_while(&self) -> thread::JoinHandle<()> {
        let device = self.clone();
        thread::spawn(move || {
            thread::sleep(A_WHILE);
            device.release();
        })
    }

    fn written(&self) -> usize {
        self.shared.0.lock().unwrap().written
    }

    fn is_quiet(&self) -> bool {
        self.shared.0.lock().unwrap().in_flight == 0
    }
}

impl Device for Holding {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.device.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        let blocks = bytes.len() / crate::format::BLOCK_SIZE;
        if blocks < 2 {
            return self.device.write(start, bytes);
        }
        let mut held = self.shared.0.lock().unwrap();
        if held.is_broken {
            drop(held);
            panic!("the device panics");
        }
        held.in_flight += 1;
        let (mut held, waited) =
            self.shared.1.wait_timeout_while(held, PATIENCE, |held| held.is_holding).unwrap();
        assert!(!waited.timed_out(), "the test never released the write");
        self.device.write(start, bytes)?;
        held.in_flight -= 1;
        held.written += blocks;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        assert!(self.is_quiet(), "a sync while a write is in flight");
        self.device.sync()
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.device.grow(blocks)
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        assert!(self.is_quiet(), "a write in flight could make the file longer again");
        self.device.shrink(blocks)
    }

    fn length_bytes(&self) -> Result<u64> {
        self.device.length_bytes()
    }
}

fn marked(place: usize) -> u8 {
    u8::try_from(place % 251).unwrap()
}

fn index(place: usize) -> BlockIndex {
    BlockIndex(u32::try_from(place).unwrap())
}

fn allocated(writer: &mut Writer) -> Vec<Position> {
    let count = usize::try_from(BLOCKS).unwrap();
    assert!(count > LARGE_BLOCKS);
    writer.allocate_all(count, Urgency::Ordinary).unwrap()
}

/// Starts a write of one block to each position. Returns its generation, and the blocks of the write before.
fn start(writer: &mut Writer, positions: &[Position]) -> Result<(Generation, Vec<OwnedSealJob>)> {
    let job = |(place, &position): (usize, &Position)| {
        let head = BlockHead { index: index(place), ..BlockHead::default() };
        OwnedSealJob { position, head, data: OwnedData::copy_of(&data(marked(place))) }
    };
    writer.start_fresh(positions.iter().enumerate().map(job).collect())
}

#[track_caller]
fn check_all(store: &Store, positions: &[Position], generation: Generation) {
    for (place, &position) in positions.iter().enumerate() {
        let redirects = &store.current().redirects;
        let block = BlockRef { position, generation };
        let found = store.read_block(redirects, KeyKind::Data, block).unwrap();
        assert_eq!((found.head.index, found.data[0]), (index(place), marked(place)));
    }
}

#[test]
fn the_writer_does_other_work_during_an_in_flight_write() {
    let device = Holding::new();
    let (store, mut writer) = writer(&device);
    let positions = allocated(&mut writer);
    device.hold();
    let (generation, _) = start(&mut writer, &positions).unwrap();
    assert_eq!(device.written(), 0);
    writer.allocate(5, Urgency::Ordinary).unwrap();
    device.release();
    writer.wait().unwrap();
    assert_eq!(device.written(), positions.len());
    check_all(&store, &positions, generation);
}

#[test]
fn everything_that_relies_on_an_in_flight_write_waits() {
    type Act = fn(&mut Writer);
    let acts: [(&str, Act); 5] = [
        ("wait", |writer| writer.wait().unwrap()),
        ("commit", |writer| drop(commit(writer, 2).unwrap())),
        ("rollback", |writer| writer.rollback().unwrap()),
        ("write", |writer| {
            add_block(writer, KeyKind::Registry, 1).unwrap();
        }),
        ("another in-flight write", |writer| {
            let positions = allocated(writer);
            start(writer, &positions).unwrap();
            writer.wait().unwrap();
        }),
    ];
    for (name, act) in acts {
        let device = Holding::new();
        let (_store, mut writer) = writer(&device);
        let positions = allocated(&mut writer);
        device.hold();
        start(&mut writer, &positions).unwrap();
        let helper = device.release_after_a_while();
        act(&mut writer);
        assert!(device.written() >= positions.len(), "{name}");
        assert!(device.is_quiet(), "{name}");
        helper.join().unwrap();
    }
}

#[test]
fn closing_and_dropping_the_writer_wait_too() {
    for finishes in [true, false] {
        let device = Holding::new();
        let (store, mut writer) = writer(&device);
        let positions = allocated(&mut writer);
        device.hold();
        start(&mut writer, &positions).unwrap();
        let helper = device.release_after_a_while();
        if finishes {
            writer.finish().unwrap();
        } else {
            drop(writer);
        }
        assert_eq!(device.written(), positions.len());
        drop(store);
        helper.join().unwrap();
        assert_eq!(mark(&read_only(&device)), 1, "the uncommitted blocks are gone");
    }
}

#[test]
fn a_panic_of_the_writing_thread_poisons_the_store() {
    let device = Holding::new();
    let (_store, mut writer) = writer(&device);
    let positions = allocated(&mut writer);
    device.shared.0.lock().unwrap().is_broken = true;
    start(&mut writer, &positions).unwrap();
    let waited = std::panic::catch_unwind(AssertUnwindSafe(|| writer.wait()));
    assert!(waited.is_err());
    assert_poisoned(commit(&mut writer, 2).map(drop));
    assert_poisoned(writer.rollback());
}

#[test]
fn a_forked_process_does_not_wait_for_its_parents_thread() {
    let device = Holding::new();
    let (_store, mut writer) = writer(&device);
    let positions = allocated(&mut writer);
    device.hold();
    start(&mut writer, &positions).unwrap();
    in_forked_process(|| {
        writer.wait().unwrap();
        assert!(matches!(writer.rollback(), Err(Error::OtherProcess { .. })));
        drop(writer);
    });
    assert_eq!(device.written(), 0);
    device.release();
}

#[test]
fn an_in_flight_write_is_durable_after_the_commit() {
    let device = Holding::new();
    let (store, mut writer) = writer(&device);
    let positions = allocated(&mut writer);
    let (generation, _) = start(&mut writer, &positions).unwrap();
    commit(&mut writer, 2).unwrap();
    writer.finish().unwrap();
    drop(store);
    let reopened = read_only(&device);
    assert_eq!(mark(&reopened), 2);
    check_all(&reopened, &positions, generation);
}

#[test]
fn sealing_a_position_again_gives_another_generation() {
    let device = Holding::new();
    let (store, mut writer) = writer(&device);
    let positions = allocated(&mut writer);
    let (first, _) = start(&mut writer, &positions).unwrap();
    let (second, _) = start(&mut writer, &positions).unwrap();
    assert_ne!(first, second);
    writer.wait().unwrap();
    check_all(&store, &positions, second);
}

#[test]
fn the_next_write_returns_the_blocks_for_reuse_and_a_rollback_wipes_them() {
    let device = Holding::new();
    let (_store, mut writer) = writer(&device);
    let positions = allocated(&mut writer);
    let (_, written) = start(&mut writer, &positions).unwrap();
    assert_eq!(written.len(), 0);
    let (_, written) = start(&mut writer, &positions).unwrap();
    assert_eq!(written.len(), positions.len());
    writer.rollback().unwrap();
    let positions = allocated(&mut writer);
    let (_, written) = start(&mut writer, &positions).unwrap();
    assert_eq!(written.len(), 0);
}

#[test]
fn a_small_write_and_one_in_a_pool_of_one_thread_are_written_at_once() {
    let device = Holding::new();
    let (store, mut writer) = writer(&device);
    let positions = allocated(&mut writer);
    let (few, many) = positions.split_at(10);
    let (generation, _) = start(&mut writer, few).unwrap();
    assert_eq!(device.written(), few.len());
    check_all(&store, few, generation);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert!(many.len() > LARGE_BLOCKS);
    let (_, written) = pool.install(|| start(&mut writer, many)).unwrap();
    assert_eq!(device.written(), few.len() + many.len());
    assert_eq!(written.len(), few.len());
}

#[test]
fn the_next_call_reports_a_failed_in_flight_write() {
    type Act = fn(&mut Writer) -> Result<()>;
    let acts: [Act; 4] = [
        |writer| writer.wait(),
        |writer| commit(writer, 2).map(drop),
        |writer| writer.rollback(),
        |writer| add_block(writer, KeyKind::Data, 1).map(drop),
    ];
    for fault in [Fault::Nothing, Fault::Torn, Fault::Late] {
        for act in acts {
            let device = Holding::new().device;
            let faulty = Faulty::on(&device, fault);
            let (store, mut writer) = writer(&faulty);
            let positions = allocated(&mut writer);
            faulty.fail_after(2);
            start(&mut writer, &positions).unwrap();
            match act(&mut writer) {
                // The write itself may report the failure, or the store that it poisoned.
                Err(Error::Io { .. } | Error::Poisoned { .. }) => {}
                other => panic!("expected the failure of the write, found {other:?}"),
            }
            assert_poisoned(store.check_usable());
            assert_poisoned(commit(&mut writer, 2));
            drop((store, writer));
            assert_eq!(mark(&read_only(&device)), 1);
        }
    }
}
