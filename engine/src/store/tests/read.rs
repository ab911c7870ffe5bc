//! Reading a run in batches returns the same data, and calls the same checks, as reading its blocks one by one.

use std::collections::HashSet;
use std::sync::Mutex;

use super::*;
use crate::error::{Check, Error};
use crate::format::{BLOCK_SIZE, BlockIndex, Generation, Run};

/// Blocks in the run: two chunks and a partial one.
const BLOCKS: u32 = 150;

/// A device with bad positions: some are unreadable, some are stale at the first read only.
#[derive(Clone)]
struct Flaky {
    device: MemoryDevice,
    /// Positions whose read fails.
    unreadable: Arc<Mutex<HashSet<Position>>>,
    /// Positions whose first read returns other bytes.
    stale: Arc<Mutex<HashSet<Position>>>,
    /// Positions that were read again.
    again: Arc<Mutex<Vec<Position>>>,
}

impl Flaky {
    fn on(device: &MemoryDevice) -> Flaky {
        Flaky {
            device: device.clone(),
            unreadable: Arc::default(),
            stale: Arc::default(),
            again: Arc::default(),
        }
    }
}

impl Device for Flaky {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.device.read(start, bytes)?;
        for (number, block) in (0..).zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            let position = Position::at(start.get() + number);
            if self.unreadable.lock().unwrap().contains(&position) {
                return Err(Error::io("read", std::io::Error::other("bad sector")));
            }
            if self.stale.lock().unwrap().contains(&position) {
                block.fill(7);
            }
        }
        Ok(())
    }

    fn read_direct(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.again.lock().unwrap().push(start);
        self.device.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.device.write(start, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.device.sync()
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.device.grow(blocks)
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        self.device.shrink(blocks)
    }

    fn length_bytes(&self) -> Result<u64> {
        self.device.length_bytes()
    }
}

/// A run of blocks, each with its number as index and data, on a device without bad positions yet.
fn world() -> (Flaky, Arc<Store>, Run, Generation) {
    let (device, _, mut writer) = create();
    let run = writer.allocate(BLOCKS, Urgency::Ordinary).unwrap();
    assert_eq!(run.count(), BLOCKS);
    let data: Vec<Data> = (0..150).map(data).collect();
    let jobs: Vec<SealJob<'_>> = (0..)
        .zip(run.positions())
        .zip(&data)
        .map(|((index, position), data)| {
            let head = BlockHead { index: BlockIndex(index), ..BlockHead::default() };
            SealJob { position, head, data }
        })
        .collect();
    let generation = writer.write_fresh(KeyKind::Data, &jobs).unwrap();
    commit(&mut writer, 1).unwrap();
    drop(writer);
    let device = Flaky::on(&device);
    let store = read_only(&device);
    (device, store, run, generation)
}

/// Reads a run, and asserts that the heads come in order within each chunk.
fn read_all(store: &Store, run: Run, generation: Generation) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(run.count()).unwrap() * DATA_SIZE];
    let seen = Mutex::new(Vec::new());
    let check = |within: u32, head: &BlockHead| {
        assert_eq!(head.index, BlockIndex(within));
        seen.lock().unwrap().push(within);
        Ok(())
    };
    let redirects = &store.current().redirects;
    store.read_run(redirects, KeyKind::Data, run, generation, &mut bytes, check)?;
    let mut seen = seen.into_inner().unwrap();
    for chunk in 0..run.count().div_ceil(64) {
        assert!(seen.iter().filter(|&&within| within / 64 == chunk).is_sorted(), "{chunk}");
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..run.count()), "each head is checked once");
    Ok(bytes)
}

fn check_data(bytes: &[u8]) {
    for (number, block) in (0..).zip(bytes.chunks_exact(DATA_SIZE)) {
        assert!(block == data(number), "block {number}");
    }
}

#[test]
fn a_run_of_any_length_is_read() {
    let (device, store, run, generation) = world();
    for count in [1, 2, 15, 16, 17, 63, 64, 65, 80, 128, BLOCKS] {
        let run = Run::new(run.start(), count).unwrap();
        let bytes = read_all(&store, run, generation).unwrap();
        assert_eq!(bytes.len(), usize::try_from(count).unwrap() * DATA_SIZE);
        check_data(&bytes);
    }
    assert_eq!(device.again.lock().unwrap().len(), 0, "no block is read twice");
}

#[test]
fn any_part_of_a_run_is_read() {
    let (_, store, run, generation) = world();
    let whole = read_all(&store, run, generation).unwrap();
    let redirects = &store.current().redirects;
    for first in [0, 3, 63, 64, 100] {
        for (within, length) in
            [(0, 1), (0, 4008), (1, 4007), (4007, 1), (4007, 2), (2000, 4096), (7, 70 * 4008)]
        {
            let start = first * DATA_SIZE + within;
            let Some(expected) = whole.get(start..start + length) else { continue };
            let count = u32::try_from((within + length).div_ceil(DATA_SIZE)).unwrap();
            let first = u32::try_from(first).unwrap();
            let part = Run::new(Position::at(run.start().get() + first), count).unwrap();
            let mut bytes = vec![0xee; length];
            let checked = Mutex::new(0);
            let check = |place: u32, head: &BlockHead| {
                assert_eq!(head.index, BlockIndex(first + place));
                *checked.lock().unwrap() += 1;
                Ok(())
            };
            let run = (part, generation);
            store
                .read_part_of_run(redirects, KeyKind::Data, run, within, &mut bytes, check)
                .unwrap();
            assert!(bytes == expected, "{length} bytes from {within} in block {first}");
            assert_eq!(checked.into_inner().unwrap(), count);
        }
    }
}

#[test]
fn each_stale_block_is_read_again_separately() {
    let (device, store, run, generation) = world();
    let stale: HashSet<Position> =
        [0, 5, 15, 16, 63, 64, 149].map(|at| Position::at(run.start().get() + at)).into();
    device.stale.lock().unwrap().clone_from(&stale);
    check_data(&read_all(&store, run, generation).unwrap());
    let again: HashSet<Position> = device.again.lock().unwrap().drain(..).collect();
    assert_eq!(again, stale, "only the stale blocks are read again");
}

#[test]
fn the_error_names_the_damaged_block() {
    let (device, store, run, generation) = world();
    let bad = Position::at(run.start().get() + 37);
    corrupt(&device.device, bad);
    match read_all(&store, run, generation) {
        Err(Error::Damaged(fault)) => {
            assert_eq!((fault.position, fault.check), (Some(bad), Check::Tag));
        }
        other => panic!("{other:?}"),
    }
    let before = Run::new(run.start(), 37).unwrap();
    check_data(&read_all(&store, before, generation).unwrap());
}

#[test]
fn an_unreadable_block_costs_no_other_block() {
    let (device, store, run, generation) = world();
    let bad = Position::at(run.start().get() + 20);
    device.unreadable.lock().unwrap().insert(bad);
    let checked = Mutex::new(Vec::new());
    let mut bytes = vec![0; 64 * DATA_SIZE];
    let redirects = &store.current().redirects;
    let chunk = Run::new(run.start(), 64).unwrap();
    let check = |within: u32, _: &BlockHead| {
        checked.lock().unwrap().push(within);
        Ok(())
    };
    let outcome = store.read_run(redirects, KeyKind::Data, chunk, generation, &mut bytes, check);
    assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
    assert!(
        checked.into_inner().unwrap().into_iter().eq(0..20),
        "the blocks before it were checked"
    );
    check_data(&bytes[..20 * DATA_SIZE]);
}

#[test]
fn a_block_of_another_generation_is_tampering() {
    let (device, store, run, generation) = world();
    let wanted = Generation { salt: !generation.salt, ..generation };
    match read_all(&store, run, wanted) {
        Err(Error::Tampered(fault)) => assert_eq!(fault.check, Check::Generation),
        other => panic!("{other:?}"),
    }
    assert!(!device.again.lock().unwrap().is_empty(), "it was read again first");
}

#[test]
fn an_error_of_the_check_stops_the_read() {
    let (_, store, run, generation) = world();
    let mut bytes = vec![0; 64 * DATA_SIZE];
    let redirects = &store.current().redirects;
    let chunk = Run::new(run.start(), 64).unwrap();
    let last = Mutex::new(0);
    let check = |within: u32, _: &BlockHead| {
        *last.lock().unwrap() = within;
        if within < 18 {
            return Ok(());
        }
        Err(Error::damaged(None, Check::Index, "another", within))
    };
    let outcome = store.read_run(redirects, KeyKind::Data, chunk, generation, &mut bytes, check);
    assert!(matches!(outcome, Err(Error::Damaged(_))), "{outcome:?}");
    assert_eq!(last.into_inner().unwrap(), 18, "no later block was checked");
}

#[test]
fn a_stale_shadow_block_is_read_again_before_it_is_copied_home() {
    let (device, _, mut first) = create();
    let block = add_block(&mut first, KeyKind::Data, 1).unwrap();
    commit(&mut first, 1).unwrap();
    first.finish().unwrap();
    let device = Flaky::on(&device);
    let (store, mut writer) = writer(&device);
    for is_stale in [false, true] {
        let changed = change_block(&mut writer, block.position, 2).unwrap();
        let shadow = writer.redirects().source(block.position, changed.generation);
        assert_ne!(shadow, block.position);
        if is_stale {
            device.stale.lock().unwrap().insert(shadow);
        }
        commit(&mut writer, 2).unwrap();
        assert_eq!(read(&store, changed).unwrap(), 2);
        let again = device.again.lock().unwrap().contains(&shadow);
        assert_eq!(again, is_stale, "only a block of another generation is read again");
    }
}
