//! Redo lists: hostile ones, which opening refuses, and lists and shadow blocks that do not open, which cost only the
//! blocks that they name.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::error::Check;
use crate::format::{
    BlockIndex, DoubledRef, Generation, REDO_PER_BLOCK, REDO_STREAM, RedoBlock, RedoEntry, Run,
};
use crate::store::listed::WrittenRedoList;
use crate::store::pipeline::Batch;
use crate::store::redo_list::RedoList;
use crate::{PlantedFault, with_planted_fault};

const GENERATION: Generation = Generation { session: 1, step: 1, salt: 1 };

/// An archive with some blocks, and the parts of a redo list.
struct World {
    device: MemoryDevice,
    writer: Writer,
    /// Live blocks.
    homes: Vec<Position>,
    /// Free positions: for shadow blocks, and from 4 on for the blocks of the list.
    free: Vec<Position>,
}

/// A block of a hostile list: its head, its entries, and the block after it in the list of such blocks.
struct Forged {
    head: BlockHead,
    entries: Vec<RedoEntry>,
    next: Option<usize>,
}

fn world() -> World {
    let (device, _, mut writer) = create();
    let mut homes = Vec::new();
    for byte in 1..=3 {
        homes.push(add_block(&mut writer, KeyKind::Data, byte).unwrap().position);
    }
    commit(&mut writer, 1).unwrap();
    let free = writer.allocate_all(10, Urgency::Ordinary).unwrap();
    World { device, writer, homes, free }
}

impl World {
    fn entry(&self, home: usize, shadow: usize) -> RedoEntry {
        let shadow = BlockRef { position: self.free[shadow], generation: GENERATION };
        RedoEntry { home: self.homes[home], shadow: Some(shadow) }
    }

    /// Commits a list of one block, and opens the archive.
    fn open(self, entries: &[RedoEntry], length: u32, head: BlockHead) -> Result<Arc<Store>> {
        self.open_chain(&[Forged { head, entries: entries.to_vec(), next: None }], length)
    }

    /// Commits a list, and opens the archive.
    fn open_chain(mut self, blocks: &[Forged], length: u32) -> Result<Arc<Store>> {
        let targets = &self.free[4..4 + 2 * blocks.len()];
        let generation = self.writer.generation_for(targets)?;
        let at = |index: usize| DoubledRef {
            position: targets[2 * index],
            copy: targets[2 * index + 1],
            generation,
        };
        for (index, Forged { head, entries, next }) in blocks.iter().enumerate() {
            let data = RedoBlock { next: next.map(at), entries: entries.clone() }.encode();
            let places = [at(index).position, at(index).copy];
            let job = |position| SealJob { position, head: *head, data: &data };
            let (kind, jobs) = (KeyKind::Meta, &places.map(job));
            self.writer.write_now(Batch { kind, generation, jobs, targets: &places })?;
        }
        let redo = WrittenRedoList { head: Some(at(0)), length };
        let update = SlotUpdate { redo, ..update_of(&self.writer.store().current().slot) };
        self.writer.commit(update)?;
        drop(self.writer);
        try_open(&self.device, Access::Read).map(|(store, _)| store)
    }
}

fn head() -> BlockHead {
    BlockHead { stream: REDO_STREAM, ..BlockHead::default() }
}

fn head_of(index: u32) -> BlockHead {
    BlockHead { index: BlockIndex(index), ..head() }
}

#[track_caller]
fn assert_refused(outcome: Result<Arc<Store>>, check: Check) {
    match outcome {
        Err(Error::Damaged(fault) | Error::Tampered(fault)) => assert_eq!(fault.check, check),
        other => panic!("expected {check:?} to fail, found {other:?}"),
    }
}

/// Asserts that a block cannot be read because a block of the redo list does not open.
#[track_caller]
fn assert_lost(store: &Store, block: BlockRef) {
    match read(store, block) {
        Err(Error::Damaged(fault)) => assert_eq!(fault.check, Check::RedoList),
        other => panic!("expected a lost redo block, found {other:?}"),
    }
}

/// Returns the list of the newest commit.
fn list_of(store: &Store) -> RedoList {
    RedoList::read(&*store.device, &store.sealer, &store.current().slot).unwrap()
}

#[test]
fn a_redo_list_like_a_writers_is_accepted() {
    let world = world();
    let entries = [world.entry(0, 0), world.entry(1, 1)];
    let expected: Vec<Position> = [0, 1, 4, 5].map(|at| world.free[at]).to_vec();
    let store = world.open(&entries, 2, head()).unwrap();
    assert_eq!(store.recovery().redo_blocks, 2);
    let listed = store.redo_blocks(&store.current()).unwrap();
    assert_eq!(listed.blocks, expected.into_iter().map(Run::single).collect());
    assert!(listed.faults.is_empty() && !listed.is_partial);
}

#[test]
fn the_newest_entry_of_a_home_location_counts() {
    let world = world();
    let removed = RedoEntry { home: world.homes[1], shadow: None };
    let newer = vec![world.entry(0, 0), removed];
    let older = vec![world.entry(0, 1), world.entry(1, 2), world.entry(2, 3)];
    let expected = [(world.homes[0], world.free[0]), (world.homes[2], world.free[3])];
    let blocks = [
        Forged { head: head_of(1), entries: newer, next: Some(1) },
        Forged { head: head_of(0), entries: older, next: None },
    ];
    let store = world.open_chain(&blocks, 5).unwrap();
    let shadows = &list_of(&store).shadows;
    let found: HashMap<_, _> = shadows.iter().map(|(&home, at)| (home, at.position)).collect();
    assert_eq!(found, expected.into());
}

#[test]
fn a_redo_list_has_the_length_in_the_meta_slot() {
    for length in [1, 3] {
        let world = world();
        let entries = [world.entry(0, 0), world.entry(1, 1)];
        assert_refused(world.open(&entries, length, head()), Check::RedoList);
    }
}

#[test]
fn blocks_of_a_redo_list_have_the_right_stream_and_no_links() {
    let hostile = [
        (BlockHead::default(), Check::Stream),
        (head_of(1), Check::Index),
        (BlockHead { previous: Some(Position::at(9)), ..head() }, Check::PreviousLink),
        (BlockHead { next: Some(Position::at(9)), ..head() }, Check::NextLink),
    ];
    for (head, check) in hostile {
        let world = world();
        let entries = [world.entry(0, 0)];
        assert_refused(world.open(&entries, 1, head), check);
    }
}

#[test]
fn the_index_of_a_redo_block_counts_the_blocks_after_it() {
    for (first, second, next) in [(0, 0, None), (2, 0, None), (1, 1, None), (1, 0, Some(0))] {
        let world = world();
        let entries = |home| vec![world.entry(home, home)];
        let blocks = [
            Forged { head: head_of(first), entries: entries(0), next: Some(1) },
            Forged { head: head_of(second), entries: entries(1), next },
        ];
        assert_refused(world.open_chain(&blocks, 2), Check::Index);
    }
}

#[test]
fn no_block_has_two_roles_in_a_redo_list() {
    let parts: [fn(&World) -> [RedoEntry; 2]; 5] = [
        |world| [world.entry(0, 0), world.entry(1, 0)],
        // The shadow block is a copy of the block of the list.
        |world| [world.entry(0, 0), world.entry(1, 4)],
        |world| [world.entry(0, 0), world.entry(1, 5)],
        |world| [world.entry(0, 0), RedoEntry { home: world.free[0], ..world.entry(1, 1) }],
        |world| [world.entry(0, 0), RedoEntry { home: world.free[5], ..world.entry(1, 1) }],
    ];
    for part in parts {
        let world = world();
        let entries = part(&world);
        assert_refused(world.open(&entries, 2, head()), Check::RedoList);
    }
}

/// Creates an archive whose newest commit lists two blocks, which are only in their shadow blocks: a power cut came
/// before they were copied to their home locations. Returns the new versions.
fn with_pending_images() -> (MemoryDevice, [BlockRef; 2]) {
    let (device, _, mut writer) = create();
    let blocks = [1, 2].map(|byte| add_block(&mut writer, KeyKind::Data, byte).unwrap());
    commit(&mut writer, 1).unwrap();
    let old = blocks.map(|block| raw(&device, block.position));
    let new = blocks.map(|block| change_block(&mut writer, block.position, 9).unwrap());
    commit(&mut writer, 2).unwrap();
    drop(writer);
    for (block, bytes) in blocks.iter().zip(old) {
        device.write(block.position, &bytes).unwrap();
    }
    (device, new)
}

#[test]
fn either_copy_of_a_redo_block_is_enough() {
    for bad in [0, 1] {
        let (device, new) = with_pending_images();
        let copies = list_of(&read_only(&device)).chain[0].copies();
        corrupt(&device, copies[bad].position);
        let store = read_only(&device);
        assert_eq!(new.map(|block| read(&store, block).unwrap()), [9; 2]);
        let faults = store.redo_blocks(&store.current()).unwrap().faults;
        let faulty: Vec<Position> = faults.into_iter().map(|(position, _)| position).collect();
        assert_eq!(faulty, [copies[bad].position]);
        assert_eq!(
            store.recovery().bad_redo_copies.len(),
            1 - bad,
            "only the first copy is needed"
        );
        let (store, writer) = writer(&device);
        drop(writer);
        assert_eq!(new.map(|block| read(&store, block).unwrap()), [9; 2]);
    }
}

#[test]
fn two_copies_of_a_redo_block_that_differ_are_found() {
    let (device, _) = with_pending_images();
    let store = read_only(&device);
    let copy = list_of(&store).chain[0].copies()[1];
    let (position, data) = (copy.position, data(7));
    let mut bytes = [0; crate::format::BLOCK_SIZE];
    let job = SealJob { position, head: head(), data: &data };
    store.sealer.seal_batch(KeyKind::Meta, copy.generation, &[job], &mut bytes).unwrap();
    device.write(position, &bytes).unwrap();
    let faults = store.redo_blocks(&store.current()).unwrap().faults;
    assert!(matches!(&faults[..], [(found, Error::Damaged(_))] if *found == position));
}

#[test]
fn a_lost_redo_block_costs_the_blocks_that_it_names() {
    for is_home in [false, true] {
        let (device, new) = with_pending_images();
        if is_home {
            drop(writer(&device));
        }
        let copies = list_of(&read_only(&device)).chain[0].copies().map(|copy| copy.position);
        for copy in copies {
            corrupt(&device, copy);
        }
        let store = read_only(&device);
        assert!(store.recovery().lost_redo_block.is_some() && !store.recovery().is_clean());
        let listed = store.redo_blocks(&store.current()).unwrap();
        let bad: Vec<Position> = listed.faults.iter().map(|(position, _)| *position).collect();
        assert!(listed.is_partial && bad == copies, "verification reports both copies: {bad:?}");
        let check = |store: &Store| {
            for block in new {
                if is_home {
                    assert_eq!(read(store, block).unwrap(), 9);
                } else {
                    assert_lost(store, block);
                }
            }
        };
        check(&store);
        // A writer goes on without the lost block, and its next commit no longer names it.
        let (store, mut writer) = writer(&device);
        check(&store);
        assert!(writer.has_redo_list());
        let added = add_block(&mut writer, KeyKind::Data, 5).unwrap();
        commit(&mut writer, 3).unwrap();
        assert!(!writer.has_redo_list());
        check(&store);
        writer.finish().unwrap();
        let store = read_only(&device);
        assert_eq!(store.recovery().lost_redo_block, None);
        assert_eq!(read(&store, added).unwrap(), 5);
        assert!(is_home == read(&store, new[0]).is_ok());
    }
}

#[test]
fn a_redo_block_that_cannot_be_read_is_no_reason_to_forget_it() {
    let (device, new) = with_pending_images();
    let copies = list_of(&read_only(&device)).chain[0].copies();
    let failing = Unreadable(device.clone(), copies.map(|copy| copy.position.get()).to_vec());
    assert!(read_only(&failing).recovery().lost_redo_block.is_some());
    let refused = try_open(&failing, Access::Write);
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    let store = read_only(&device);
    assert_eq!(new.map(|block| read(&store, block).unwrap()), [9; 2]);
}

#[test]
fn a_bad_shadow_block_costs_one_block_and_no_opening() {
    let (device, [bad, good]) = with_pending_images();
    let shadow = list_of(&read_only(&device)).shadows[&bad.position].position;
    corrupt(&device, shadow);
    let home = raw(&device, bad.position);
    let (store, mut writer) = writer(&device);
    for mark in 3..6 {
        assert_eq!(read(&store, good).unwrap(), 9);
        assert!(read(&store, bad).is_err());
        assert_eq!(raw(&device, bad.position), home, "a bad block replaces nothing");
        commit(&mut writer, mark).unwrap();
        assert!(writer.has_redo_list(), "the list names the bad block");
    }
    assert_eq!(list_of(&store).shadows.len(), 1);
    assert_eq!(writer.transaction.carried(), 0, "no reader holds it back");
    let changed = change_block(&mut writer, bad.position, 4).unwrap();
    commit(&mut writer, 6).unwrap();
    assert_eq!(read(&store, changed).unwrap(), 4);
    commit(&mut writer, 7).unwrap();
    assert!(!writer.has_redo_list(), "the block was written again");
}

#[test]
fn a_bad_shadow_block_costs_nothing_once_a_writer_finds_its_block_home() {
    let (device, new) = with_pending_images();
    drop(writer(&device));
    for shadow in list_of(&read_only(&device)).shadows.values() {
        corrupt(&device, shadow.position);
    }
    assert!(read(&read_only(&device), new[0]).is_err());
    let (store, mut writer) = writer(&device);
    assert_eq!(new.map(|block| read(&store, block).unwrap()), [9; 2]);
    commit(&mut writer, 3).unwrap();
    assert!(!writer.has_redo_list());
}

#[test]
fn an_image_that_rots_while_a_reader_keeps_it_is_not_copied() {
    let rot = || {
        let (device, store, mut writer) = create();
        let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
        commit(&mut writer, 1).unwrap();
        let snapshot = store.current();
        let new = change_block(&mut writer, block.position, 2).unwrap();
        commit(&mut writer, 2).unwrap();
        let shadow = writer.redirects().source(new.position, new.generation);
        assert_ne!(shadow, new.position);
        corrupt(&device, shadow);
        let home = raw(&device, block.position);
        drop(snapshot);
        commit(&mut writer, 3).unwrap();
        raw(&device, block.position) == home
    };
    assert!(rot());
    assert!(!with_planted_fault(PlantedFault::CopyUnopened, rot), "the fault has an effect");
}

#[test]
fn every_planted_fault_in_the_redo_list_has_an_effect() {
    // The other one is planted in the test above.
    assert_eq!(PlantedFault::REDO, [PlantedFault::OneRedoCopy, PlantedFault::CopyUnopened]);
    let store = with_planted_fault(PlantedFault::OneRedoCopy, || {
        let (device, _) = with_pending_images();
        read_only(&device)
    });
    assert_eq!(store.redo_blocks(&store.current()).unwrap().faults.len(), 1);
}

/// Returns an archive with `count` blocks, and a snapshot of it.
fn pinned(count: usize) -> (Arc<Store>, Writer, Vec<BlockRef>, Arc<Commit>) {
    let (_, store, mut writer) = create();
    let blocks = (0..count).map(|_| add_block(&mut writer, KeyKind::Data, 1).unwrap()).collect();
    commit(&mut writer, 1).unwrap();
    let snapshot = store.current();
    (store, writer, blocks, snapshot)
}

#[test]
fn next_to_a_reader_the_list_grows_at_its_front() {
    let count = REDO_PER_BLOCK + 1;
    let (store, mut writer, blocks, _snapshot) = pinned(count + 1);
    for block in &blocks[..count] {
        change_block(&mut writer, block.position, 2).unwrap();
    }
    commit(&mut writer, 2).unwrap();
    let first = list_of(&store);
    assert_eq!((first.chain.len(), first.length), (2, count));
    change_block(&mut writer, blocks[count].position, 2).unwrap();
    change_block(&mut writer, blocks[0].position, 3).unwrap();
    commit(&mut writer, 3).unwrap();
    let second = list_of(&store);
    assert_eq!(second.chain[1..], first.chain[..], "the old blocks are named again");
    assert_eq!((second.length, second.shadows.len()), (count + 2, count + 1));
    // Nothing changes, so nothing of the list is written.
    commit(&mut writer, 4).unwrap();
    assert_eq!(list_of(&store).chain, second.chain);
}

#[test]
fn a_list_is_rewritten_once_more_than_half_of_it_is_superseded() {
    let (store, mut writer, blocks, _snapshot) = pinned(4);
    for block in &blocks {
        change_block(&mut writer, block.position, 2).unwrap();
    }
    commit(&mut writer, 2).unwrap();
    let lengths = (3..10).map(|byte| {
        change_block(&mut writer, blocks[0].position, byte).unwrap();
        commit(&mut writer, u64::from(byte)).unwrap();
        list_of(&store).length
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [5, 6, 7, 8, 4, 5, 6]);
}

#[test]
fn the_copies_of_a_redo_block_are_far_apart_where_there_is_room() {
    let (_, store, mut writer) = create();
    allocate_before_third_copies(&mut writer);
    let run = writer.allocate(600, Urgency::Ordinary).unwrap();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    writer.free(run);
    commit(&mut writer, 1).unwrap();
    writer.release(run).unwrap();
    change_block(&mut writer, block.position, 2).unwrap();
    commit(&mut writer, 2).unwrap();
    let [first, second] = list_of(&store).chain[0].copies();
    assert!(first.position.get().abs_diff(second.position.get()) >= 256);
}

#[derive(Debug, Clone)]
enum Step {
    Add,
    Change(usize),
    Free(usize),
    Pin,
    Unpin(usize),
    Commit,
    Rollback,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Add),
        6 => (0..8_usize).prop_map(Step::Change),
        2 => (0..8_usize).prop_map(Step::Free),
        1 => Just(Step::Pin),
        1 => (0..4_usize).prop_map(Step::Unpin),
        4 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::Reopen),
    ]
}

/// An archive and what it should hold: the blocks of the open transaction, of the last commit, and of each snapshot,
/// with the byte that each repeats.
struct Model {
    device: MemoryDevice,
    store: Arc<Store>,
    writer: Writer,
    open: Blocks,
    committed: Blocks,
    pinned: Vec<(Arc<Commit>, Blocks)>,
    byte: u8,
    marks: u64,
}

type Blocks = Vec<(BlockRef, u8)>;

impl Model {
    fn new() -> Model {
        let (device, store, writer) = create();
        let (open, committed, pinned) = (Vec::new(), Vec::new(), Vec::new());
        Model { device, store, writer, open, committed, pinned, byte: 0, marks: 0 }
    }

    fn apply(&mut self, step: &Step) {
        self.byte = self.byte.wrapping_add(1);
        match *step {
            Step::Add => {
                let block = add_block(&mut self.writer, KeyKind::Data, self.byte).unwrap();
                self.open.push((block, self.byte));
            }
            Step::Change(at) if !self.open.is_empty() => {
                let at = at % self.open.len();
                let position = self.open[at].0.position;
                if !self.writer.is_fresh(position) {
                    let block = change_block(&mut self.writer, position, self.byte).unwrap();
                    self.open[at] = (block, self.byte);
                }
            }
            Step::Free(at) if !self.open.is_empty() => {
                let (block, _) = self.open.remove(at % self.open.len());
                self.writer.free(Run::single(block.position));
            }
            Step::Pin => self.pinned.push((self.store.current(), self.committed.clone())),
            Step::Unpin(at) if at < self.pinned.len() => drop(self.pinned.remove(at)),
            Step::Commit => self.commit(),
            Step::Rollback => {
                self.writer.rollback().unwrap();
                self.open.clone_from(&self.committed);
            }
            Step::Reopen => {
                self.pinned.clear();
                let device = self.device.clone();
                let (store, writer) = writer(&device);
                (self.store, self.writer) = (store, writer);
                self.open.clone_from(&self.committed);
            }
            Step::Change(_) | Step::Free(_) | Step::Unpin(_) => {}
        }
    }

    fn commit(&mut self) {
        self.marks += 1;
        // Everything that this transaction frees goes to the pool of the next one.
        let redo = self.writer.write_redo_list().unwrap();
        let mut free: RunSet = self.writer.drain_pool();
        free.extend(self.writer.drain_freed().iter());
        let inline_free = free.iter().take(16).collect();
        let counters = [self.marks; 8];
        let update = SlotUpdate {
            inline_free,
            counters,
            redo,
            sessions_recorded: true,
            ..update_of(&self.store.current().slot)
        };
        self.writer.commit(update).unwrap();
        self.committed.clone_from(&self.open);
        self.check_list();
    }

    /// Checks the list of the newest commit, and that every snapshot and a new reader find their blocks.
    fn check_list(&self) {
        let list = list_of(&self.store);
        assert!(list.lost.is_none() && list.bad_copies.is_empty());
        assert!(list.length <= 2 * list.shadows.len(), "at most half is superseded");
        let live: HashSet<Position> =
            self.committed.iter().map(|(block, _)| block.position).collect();
        assert!(list.shadows.keys().all(|home| live.contains(home)), "only live blocks are listed");
        for (commit, blocks) in &self.pinned {
            check(&self.store, commit, blocks);
        }
        let reader = read_only(&self.device);
        check(&reader, &reader.current(), &self.committed);
    }
}

fn check(store: &Store, commit: &Commit, blocks: &Blocks) {
    for &(block, byte) in blocks {
        let found = store.read_block(&commit.redirects, KeyKind::Data, block).unwrap();
        assert_eq!(found.data[..], data(byte)[..]);
    }
}

proptest! {
    #[test]
    fn lists_name_the_newest_versions_whatever_is_changed_freed_and_pinned(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
        }
        model.commit();
        prop_assert_eq!(mark(&read_only(&model.device)), model.marks);
    }
}
