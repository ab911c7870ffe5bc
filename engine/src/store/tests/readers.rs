//! A reader that opens an archive next to a writer: it never reads a commit that it has not locked, and never takes
//! what a write shows halfway for damage.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::device::simulated::SimulatedDisk;
use crate::device::{LockTable, Locks};
use crate::format::{BLOCK_SIZE, META_SLOT_PAIRS, META_SLOTS, RESERVED_BLOCKS, Run};
use crate::{PlantedFault, with_planted_fault};

/// A disk whose first looks show one pair of meta slots torn, and which does something before a reader's first lock.
struct Disk {
    simulated: SimulatedDisk,
    locks: Arc<Interposed>,
    torn_looks: AtomicU32,
    /// The meta slots that these looks show torn.
    torn: Vec<Position>,
}

struct Interposed {
    locks: Arc<dyn Locks>,
    before_lock: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    is_written: AtomicBool,
    /// Whether the system refuses to list the locks.
    is_silent: AtomicBool,
}

impl fmt::Debug for Interposed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.locks.fmt(formatter)
    }
}

impl Disk {
    fn new(disk: &SimulatedDisk) -> Disk {
        let locks = LockTable::default().open();
        let before_lock = Mutex::default();
        let locks = Arc::new(Interposed {
            locks,
            before_lock,
            is_written: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
        });
        let torn = META_SLOT_PAIRS[0].to_vec();
        Disk { simulated: disk.clone(), locks, torn_looks: AtomicU32::new(0), torn }
    }

    fn open(self) -> Result<Arc<Store>> {
        let options = OpenOptions::default();
        Store::open_device(Box::new(self), &secret(), options).map(|(store, _)| store)
    }

    fn open_to_write(self) -> (Arc<Store>, Writer) {
        let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
        let (store, writer) = Store::open_device(Box::new(self), &secret(), options).unwrap();
        (store, writer.unwrap())
    }
}

impl Device for Disk {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.simulated.read(start, bytes)?;
        let is_look = bytes.len() == BLOCK_SIZE * RESERVED_BLOCKS as usize;
        let is_torn = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if is_look && self.torn_looks.fetch_update(order, order, is_torn).is_ok() {
            for position in &self.torn {
                bytes[position.get() as usize * BLOCK_SIZE + 2000] ^= 1;
            }
        }
        Ok(())
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.simulated.write(start, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.simulated.sync()
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.simulated.grow(blocks)
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        self.simulated.shrink(blocks)
    }

    fn length_bytes(&self) -> Result<u64> {
        self.simulated.length_bytes()
    }

    fn locks(&self) -> Arc<dyn Locks> {
        Arc::clone(&self.locks) as Arc<dyn Locks>
    }
}

impl Locks for Interposed {
    fn lock_writer(&self) -> Result<()> {
        self.locks.lock_writer()
    }

    fn is_written(&self) -> Result<bool> {
        Ok(self.is_written.load(Ordering::Relaxed))
    }

    fn lock_reader(&self, number: u64) -> Result<()> {
        if let Some(before) = self.before_lock.lock().unwrap().take() {
            before();
        }
        self.locks.lock_reader(number)
    }

    fn unlock_reader(&self, number: u64) {
        self.locks.unlock_reader(number);
    }

    fn lowest_reader(&self, below: u64) -> Result<Option<u64>> {
        if self.is_silent.load(Ordering::Relaxed) {
            return Err(Error::io("query the locks", std::io::ErrorKind::Other.into()));
        }
        self.locks.lowest_reader(below)
    }

    fn lock_out_readers(&self) -> Result<()> {
        self.locks.lock_out_readers()
    }
}

fn maybe_planted<T>(fault: Option<PlantedFault>, work: impl FnOnce() -> T) -> T {
    match fault {
        Some(fault) => with_planted_fault(fault, work),
        None => work(),
    }
}

fn create_simulated() -> (SimulatedDisk, Writer) {
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let (_, writer) = Store::create_device(Box::new(disk.clone()), &secret(), &options).unwrap();
    (disk, writer)
}

#[test]
fn a_reader_looks_again_once_it_has_locked_its_commit() {
    for fault in [None, Some(PlantedFault::TrustTheFirstLook)] {
        let (disk, mut writer) = create_simulated();
        let before = add_block(&mut writer, KeyKind::Data, 1).unwrap();
        commit(&mut writer, 1).unwrap();
        let device = Disk::new(&disk);
        *device.locks.before_lock.lock().unwrap() = Some(Box::new(move || {
            for byte in 2..5 {
                change_block(&mut writer, before.position, byte).unwrap();
                commit(&mut writer, u64::from(byte)).unwrap();
            }
        }));
        let store = maybe_planted(fault, || device.open()).unwrap();
        // With the fault, the reader is left with a commit whose block is gone.
        let expected = if fault.is_none() { 4 } else { 1 };
        assert_eq!(mark(&store), expected);
        assert!(read(&store, before).is_err(), "the first version is overwritten");
    }
}

#[test]
fn a_torn_look_next_to_a_writer_is_no_damage() {
    let (disk, _writer) = create_simulated();
    let torn = |looks, is_written| {
        let device = Disk::new(&disk);
        device.torn_looks.store(looks, Ordering::Relaxed);
        device.locks.is_written.store(is_written, Ordering::Relaxed);
        device.open()
    };
    for (looks, is_written) in [(1, false), (1, true), (3, true)] {
        torn(looks, is_written).unwrap();
        let planted = with_planted_fault(PlantedFault::TrustOneLook, || torn(looks, is_written));
        assert!(matches!(planted, Err(Error::Damaged(_))), "{planted:?}");
    }
    // Two equal looks are not enough next to a writer.
    let planted = with_planted_fault(PlantedFault::JudgeWhileWritten, || torn(3, true));
    assert!(matches!(planted, Err(Error::Damaged(_))), "{planted:?}");
    // The same tear in every look is damage without a writer. With one, the reader cannot tell.
    assert!(matches!(torn(u32::MAX, false), Err(Error::Damaged(_))));
    match torn(u32::MAX, true) {
        Err(Error::Busy { waited_ms, cause }) => {
            assert!(waited_ms >= 1000 && matches!(*cause, Error::Damaged(_)), "{cause}");
        }
        outcome => panic!("expected a busy archive, found {outcome:?}"),
    }
}

#[test]
fn a_slot_that_a_writer_is_writing_gives_no_warning_of_a_lost_commit() {
    let (disk, _writer) = create_simulated();
    let warns = |slot: Position, looks, is_written| {
        let mut device = Disk::new(&disk);
        device.torn = vec![slot];
        device.torn_looks.store(looks, Ordering::Relaxed);
        device.locks.is_written.store(is_written, Ordering::Relaxed);
        device.open().unwrap().recovery().may_have_held_newer.is_some()
    };
    let older = META_SLOTS.into_iter().filter(|&slot| warns(slot, u32::MAX, false));
    let older: Vec<Position> = older.collect();
    assert_eq!(older.len(), 2, "a damaged copy of the older commit may have held a newer one");
    for slot in older {
        for (looks, is_written) in [(1, false), (1, true), (3, true)] {
            assert!(!warns(slot, looks, is_written), "{slot}: {looks} looks");
        }
        let planted = with_planted_fault(PlantedFault::TrustOneLook, || warns(slot, 3, true));
        assert!(planted, "{slot}: the fault has an effect");
        assert!(warns(slot, u32::MAX, true), "a stopped writer looks like a crash");
    }
}

/// Next to a writer that is between the two copies, and after the crash that leaves one.
#[test]
fn the_only_copy_of_a_commit_is_reported_unless_a_writer_is_about_to_write_the_other() {
    let (disk, mut writer) = create_simulated();
    commit(&mut writer, 1).unwrap();
    let found = |looks, slot: Position, is_written| {
        let mut device = Disk::new(&disk);
        device.torn = vec![slot];
        device.torn_looks.store(looks, Ordering::Relaxed);
        device.locks.is_written.store(is_written, Ordering::Relaxed);
        let begun = std::time::Instant::now();
        let only = device.open().unwrap().recovery().only_copy;
        assert!(begun.elapsed().as_millis() < 500, "a reader does not wait for the second copy");
        only
    };
    let [first, second] = META_SLOT_PAIRS[0];
    assert_eq!(read_only(&disk).current().slot.number % 2, 1, "the first pair holds the commit");
    for (slot, twin) in [(first, second), (second, first)] {
        assert_eq!(found(u32::MAX, slot, false), Some(twin), "as a crash leaves it");
        assert_eq!(found(u32::MAX, slot, true), None, "a writer is active");
        let look = || found(u32::MAX, slot, true);
        let planted = with_planted_fault(PlantedFault::JudgeWhileWritten, look);
        assert_eq!(planted, Some(twin), "the fault has an effect");
        for looks in 0..3 {
            assert_eq!(found(looks, slot, false), None, "the writer ended after {looks} looks");
        }
    }
}

#[test]
fn recovery_leaves_the_bytes_of_good_meta_slots() {
    let good = |fault: Option<PlantedFault>| {
        let (disk, writer) = create_simulated();
        drop(writer);
        let slots = || {
            META_SLOTS.map(|position| {
                let mut bytes = [0; BLOCK_SIZE];
                disk.read(position, &mut bytes).unwrap();
                bytes
            })
        };
        let before = slots();
        let open = || self::writer(&disk);
        // Beginning the session commits to one pair, so the other one shows what recovery did.
        let opened = maybe_planted(fault, open);
        drop(opened);
        before.iter().zip(slots()).filter(|(before, after)| **before == *after).count()
    };
    assert_eq!(good(None), 2);
    assert_eq!(good(Some(PlantedFault::ResealGoodSlots)), 0);
}

#[test]
fn closing_leaves_the_length_of_a_file_that_has_a_reader() {
    let keeps_its_length = |fault: Option<PlantedFault>| {
        let (disk, mut writer) = create_simulated();
        add_block(&mut writer, KeyKind::Data, 1).unwrap();
        commit(&mut writer, 1).unwrap();
        let _reader = read_only(&disk);
        commit(&mut writer, 2).unwrap();
        let before = disk.length_bytes().unwrap();
        let finish = || writer.finish();
        let finished = maybe_planted(fault, finish);
        finished.unwrap().trimmed.unwrap();
        disk.length_bytes().unwrap() == before
    };
    assert!(keeps_its_length(None));
    assert!(!keeps_its_length(Some(PlantedFault::CutUnderReaders)));
}

#[test]
fn the_next_writer_allocates_nothing_in_the_part_of_the_file_that_an_older_commit_had() {
    let is_overwritten = |fault: Option<PlantedFault>| {
        let (disk, mut writer) = create_simulated();
        let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
        commit(&mut writer, 1).unwrap();
        let reader = read_only(&disk);
        let last = Run::single(block.position);
        writer.free(last);
        writer.lower_count(last);
        commit(&mut writer, 2).unwrap();
        drop(writer);
        let (_, mut writer) = self::writer(&disk);
        let fill = || {
            for _ in 0..8 {
                add_block(&mut writer, KeyKind::Data, 2).unwrap();
            }
        };
        maybe_planted(fault, fill);
        read(&reader, block).is_err()
    };
    assert!(!is_overwritten(None));
    assert!(is_overwritten(Some(PlantedFault::AllocateInTheTail)));
}

#[test]
fn a_writer_that_cannot_ask_for_readers_after_a_commit_is_unusable() {
    let (disk, _) = create_simulated();
    let device = Disk::new(&disk);
    let locks = Arc::clone(&device.locks);
    let (store, mut writer) = device.open_to_write();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    locks.is_silent.store(true, Ordering::Relaxed);
    assert!(matches!(commit(&mut writer, 1), Err(Error::Io { .. })));
    locks.is_silent.store(false, Ordering::Relaxed);
    // What the commit freed is not recorded, so nothing more is written.
    assert!(matches!(writer.rollback(), Err(Error::Poisoned { .. })));
    drop((store, writer));
    // The commit counts.
    let store = read_only(&disk);
    assert_eq!((mark(&store), read(&store, block).unwrap()), (1, 1));
}

#[test]
fn a_wrong_key_is_reported_at_once_next_to_a_writer() {
    let (disk, _writer) = create_simulated();
    let device = Disk::new(&disk);
    device.locks.is_written.store(true, Ordering::Relaxed);
    let wrong = Secret::Key(RawKey::from_bytes([4; 32]));
    let begun = std::time::Instant::now();
    let outcome = Store::open_device(Box::new(device), &wrong, OpenOptions::default());
    assert!(matches!(outcome, Err(Error::WrongKey { .. })));
    assert!(begun.elapsed() < std::time::Duration::from_millis(900));
}

#[test]
fn a_reader_follows_the_commits_of_a_writer() {
    let (disk, mut writer) = create_simulated();
    let first = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let store = read_only(&disk);
    assert!(!store.refresh().unwrap());
    let before = store.current();
    let mut newest = first;
    for byte in 2..6 {
        newest = change_block(&mut writer, first.position, byte).unwrap();
        commit(&mut writer, u64::from(byte)).unwrap();
        assert!(store.refresh().unwrap());
        assert_eq!((mark(&store), read(&store, newest).unwrap()), (u64::from(byte), byte));
        let found = store.read_block(&before.redirects, KeyKind::Data, first).unwrap();
        assert_eq!(found.data[0], 1, "the snapshot stays");
    }
    drop(before);
    commit(&mut writer, 6).unwrap();
    assert!(!writer.store().refresh().unwrap(), "a writer is always at the newest commit");
    assert_eq!(read(&store, newest).unwrap(), 5);
}

#[test]
fn threads_that_refresh_at_the_same_time_never_move_a_reader_back() {
    let (disk, mut writer) = create_simulated();
    let store = read_only(&disk);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    store.refresh().unwrap();
                    let number = store.current().slot.number;
                    assert!(number >= last, "commit {number} after {last}");
                    last = number;
                }
            });
        }
        for number in 1..300 {
            commit(&mut writer, number).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    store.refresh().unwrap();
    assert_eq!(mark(&store), 299);
}

#[test]
fn a_commit_that_the_disk_has_lost_is_no_damage() {
    let (device, _, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let before = device.snapshot();
    let lost = change_block(&mut writer, block.position, 2).unwrap();
    commit(&mut writer, 2).unwrap();
    drop(writer);
    let store = read_only(&device);
    // The sync of the commit failed, and the system dropped what it had not written.
    device.restore(&before);
    let is_lost = |outcome: Result<u8>| {
        let number = store.current().slot.number;
        assert!(matches!(outcome, Err(Error::CommitLost { number: at }) if at == number));
    };
    is_lost(read(&store, lost));
    let (_, mut writer) = self::writer(&device);
    assert_eq!(writer.store().current().slot.number, store.current().slot.number);
    change_block(&mut writer, block.position, 3).unwrap();
    is_lost(read(&store, lost));
    assert!(matches!(store.refresh(), Err(Error::CommitLost { .. })));
    commit(&mut writer, 3).unwrap();
    // From the next commit on, only the block itself tells.
    assert!(matches!(read(&store, lost), Err(Error::Tampered(_))));
}

#[test]
fn readers_can_hold_back_a_limited_number_of_changed_blocks() {
    let (_, store, mut writer) = create();
    let blocks: Vec<BlockRef> =
        (0..4200).map(|_| add_block(&mut writer, KeyKind::Data, 1).unwrap()).collect();
    commit(&mut writer, 1).unwrap();
    let snapshot = store.current();
    let change = |writer: &mut Writer, blocks: &[BlockRef]| {
        let data = data(2);
        let head = BlockHead::default();
        let job = |block: &BlockRef| SealJob { position: block.position, head, data: &data };
        let jobs: Vec<SealJob<'_>> = blocks.iter().map(job).collect();
        writer.write_over(&jobs, Urgency::Ordinary)
    };
    change(&mut writer, &blocks[..4000]).unwrap();
    commit(&mut writer, 2).unwrap();
    change(&mut writer, &blocks[4000..4096]).unwrap();
    commit(&mut writer, 3).unwrap();
    let before = writer.pooled_blocks();
    match change(&mut writer, &blocks[4096..4097]) {
        Err(Error::HeldByReaders { oldest, entries, .. }) => {
            assert_eq!((oldest, entries), (snapshot.slot.number, 4096));
        }
        outcome => panic!("expected a limit, found {outcome:?}"),
    }
    assert_eq!(writer.pooled_blocks(), before, "nothing was allocated");
    assert!(!writer.is_touched());
    // New blocks and commits are still possible, and so are changes once the reader has left.
    add_block(&mut writer, KeyKind::Data, 3).unwrap();
    commit(&mut writer, 4).unwrap();
    drop(snapshot);
    commit(&mut writer, 5).unwrap();
    change(&mut writer, &blocks[4096..]).unwrap();
    commit(&mut writer, 6).unwrap();
}

#[test]
fn a_change_at_the_limit_asks_again_who_reads() {
    let (disk, _) = create_simulated();
    let device = Disk::new(&disk);
    let locks = Arc::clone(&device.locks);
    let (store, mut writer) = device.open_to_write();
    let positions = writer.allocate_all(4096, Urgency::Ordinary).unwrap();
    let (data, head) = (data(1), BlockHead::default());
    let job = |&position: &Position| SealJob { position, head, data: &data };
    let jobs: Vec<SealJob<'_>> = positions.iter().map(job).collect();
    writer.write_fresh(KeyKind::Data, &jobs).unwrap();
    commit(&mut writer, 1).unwrap();
    let snapshot = store.current();
    let generation = writer.write_over(&jobs, Urgency::Ordinary).unwrap();
    commit(&mut writer, 2).unwrap();
    locks.is_silent.store(true, Ordering::Relaxed);
    assert!(matches!(writer.check_changes(1), Err(Error::Io { .. })), "no answer is an error");
    locks.is_silent.store(false, Ordering::Relaxed);
    assert!(matches!(writer.check_changes(1), Err(Error::HeldByReaders { .. })));
    drop(snapshot);
    // Without a commit, every image is copied home.
    writer.check_changes(1).unwrap();
    assert!(writer.redirects().is_empty());
    let home = BlockRef { position: positions[0], generation };
    let found = store.read_block(&Redirects::default(), KeyKind::Data, home).unwrap();
    assert_eq!(found.data[..], data[..]);
}
