//! Savepoints: after any sequence of changes, savepoints and returns to them, every block reads as it did at the point,
//! the writer's own state is that of the point, and no position was sealed twice in one step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::*;
use crate::device::simulated::SimulatedDisk;
use crate::format::{RESERVED_BLOCKS, is_reserved};
use crate::planted::{PlantedFault, with_planted_fault};

/// A number that selects a block, a savepoint or a free run is taken modulo their count.
#[derive(Debug, Clone)]
enum Step {
    Add {
        count: u32,
        byte: u8,
    },
    Change {
        which: usize,
        byte: u8,
    },
    Free {
        which: usize,
        count: usize,
    },
    Release {
        which: usize,
    },
    Savepoint,
    Drop {
        which: usize,
    },
    /// Forgets the savepoints that were dropped, or all of them, as a commit does before it seals the last blocks.
    Forget {
        all: bool,
    },
    Return {
        which: usize,
    },
    RollBack,
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0_usize..1000;
    prop_oneof![
        6 => (1_u32..5, any::<u8>()).prop_map(|(count, byte)| Step::Add { count, byte }),
        1 => (100_u32..200, any::<u8>()).prop_map(|(count, byte)| Step::Add { count, byte }),
        8 => (which(), any::<u8>()).prop_map(|(which, byte)| Step::Change { which, byte }),
        4 => which().prop_map(|which| Step::Free { which, count: 1 }),
        1 => which().prop_map(|which| Step::Free { which, count: 150 }),
        3 => which().prop_map(|which| Step::Release { which }),
        5 => Just(Step::Savepoint),
        2 => which().prop_map(|which| Step::Drop { which }),
        3 => any::<bool>().prop_map(|all| Step::Forget { all }),
        5 => which().prop_map(|which| Step::Return { which }),
        1 => Just(Step::RollBack),
        2 => Just(Step::Commit),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..80)
}

/// What the blocks in use hold, and the free blocks that the transaction has released to the pool.
#[derive(Debug, Clone, Default, PartialEq)]
struct Content {
    blocks: BTreeMap<Position, BlockRef>,
    bytes: BTreeMap<Position, u8>,
    released: BTreeSet<Position>,
}

/// What a writer says about itself.
#[derive(Debug)]
struct Facts {
    block_count: u32,
    redirects: Redirects,
    is_touched: bool,
}

fn facts(writer: &Writer) -> Facts {
    Facts {
        block_count: writer.block_count(),
        redirects: writer.redirects().clone(),
        is_touched: writer.is_touched(),
    }
}

struct World {
    disk: SimulatedDisk,
    store: Arc<Store>,
    writer: Writer,
    now: Content,
    committed: Content,
    /// Blocks that are free in the last commit.
    free: Vec<Position>,
    points: Vec<(Savepoint, Content, Facts)>,
}

fn pick<T>(items: &[T], which: usize) -> Option<&T> {
    items.get(which.checked_rem(items.len())?)
}

impl World {
    fn new() -> World {
        let disk = SimulatedDisk::new();
        let options = CreateOptions::default();
        let made = Store::create_device(Box::new(disk.clone()), &secret(), &options);
        let (store, writer) = made.unwrap();
        let (now, committed) = (Content::default(), Content::default());
        World { disk, store, writer, now, committed, free: Vec::new(), points: Vec::new() }
    }

    fn make(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Add { count, byte } => {
                for _ in 0..count {
                    let block = add_block(&mut self.writer, KeyKind::Data, byte)?;
                    self.note(block, byte);
                }
            }
            Step::Change { which, byte } => {
                let positions: Vec<Position> = self.now.blocks.keys().copied().collect();
                let Some(&position) = pick(&positions, which) else { return Ok(()) };
                let changed = if self.writer.is_fresh(position) {
                    let data = data(byte);
                    let job = SealJob { position, head: BlockHead::default(), data: &data };
                    let generation = self.writer.write_fresh(KeyKind::Data, &[job])?;
                    BlockRef { position, generation }
                } else {
                    change_block(&mut self.writer, position, byte)?
                };
                self.note(changed, byte);
            }
            Step::Free { which, count } => {
                let positions: Vec<Position> = self.now.blocks.keys().copied().collect();
                let first = which.checked_rem(positions.len()).unwrap_or(0);
                for position in positions.into_iter().skip(first).take(count) {
                    self.writer.free(Run::single(position));
                    self.now.blocks.remove(&position);
                    self.now.bytes.remove(&position);
                }
            }
            Step::Release { which } => {
                if let Some(&position) = pick(&self.free, which)
                    && self.now.released.insert(position)
                {
                    self.writer.release(Run::single(position))?;
                }
            }
            Step::Savepoint => {
                let point = self.writer.savepoint()?;
                self.points.push((point, self.now.clone(), facts(&self.writer)));
            }
            Step::Drop { which } => {
                if !self.points.is_empty() {
                    self.points.remove(which % self.points.len());
                }
            }
            Step::Forget { all: false } => self.writer.forget_dropped_savepoints(),
            Step::Forget { all: true } => {
                self.writer.forget_savepoints();
                self.points.clear();
            }
            Step::Return { which } => self.roll_back_to(which)?,
            Step::RollBack => {
                self.writer.rollback()?;
                self.now = self.committed.clone();
                self.points.clear();
            }
            Step::Commit => self.commit()?,
        }
        Ok(())
    }

    fn note(&mut self, block: BlockRef, byte: u8) {
        self.now.blocks.insert(block.position, block);
        self.now.bytes.insert(block.position, byte);
    }

    fn roll_back_to(&mut self, which: usize) -> Result<()> {
        if self.points.is_empty() {
            return Ok(());
        }
        let index = which % self.points.len();
        self.writer.roll_back_to(&self.points[index].0)?;
        for (gone, _, _) in self.points.drain(index + 1..) {
            let refused = self.writer.roll_back_to(&gone);
            assert!(matches!(refused, Err(Error::NoSavepoint)), "{refused:?}");
        }
        let (_, content, then) = &self.points[index];
        self.now = content.clone();
        let found = facts(&self.writer);
        assert_eq!(
            (found.block_count, found.redirects),
            (then.block_count, then.redirects.clone())
        );
        // Blocks that were allocated and freed before the savepoint can be allocated again, so they may leave no trace.
        assert!(then.is_touched || !found.is_touched, "a return to a savepoint changed something");
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        commit(&mut self.writer, 1)?;
        for (gone, _, _) in self.points.drain(..) {
            assert!(matches!(self.writer.roll_back_to(&gone), Err(Error::NoSavepoint)));
        }
        let commit = self.store.current();
        let listed = self.store.redo_blocks(&commit)?;
        let is_free = |position: &Position| {
            !self.now.blocks.contains_key(position)
                && !listed.blocks.contains(*position)
                && !is_reserved(*position)
        };
        let all = RESERVED_BLOCKS..self.writer.block_count();
        self.free = all.map(Position::at).filter(is_free).collect();
        self.now.released.clear();
        self.committed = self.now.clone();
        Ok(())
    }

    fn check(&self) -> std::result::Result<(), String> {
        if let Some(repeated) = self.disk.sealed().repeated() {
            return Err(repeated.to_string());
        }
        let commit = self.store.current();
        for (redirects, content) in
            [(self.writer.redirects(), &self.now), (&commit.redirects, &self.committed)]
        {
            for (position, &block) in &content.blocks {
                let found = self.store.read_block(redirects, KeyKind::Data, block);
                let found = found.map_err(|error| error.to_string())?;
                if found.data[0] != content.bytes[position] {
                    return Err(format!("block {position} has other bytes"));
                }
            }
        }
        Ok(())
    }
}

fn run(steps: &[Step]) -> std::result::Result<(), String> {
    let mut world = World::new();
    for (number, step) in steps.iter().enumerate() {
        let mut made = world.make(step).map_err(|error| error.to_string());
        if matches!(step, Step::Return { .. } | Step::RollBack | Step::Commit) {
            made = made.and_then(|()| world.check());
        }
        made.map_err(|failure| format!("step {number}, {step:?}: {failure}"))?;
    }
    world.check()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_return_to_a_savepoint_restores_everything_and_seals_nothing_twice(steps in steps()) {
        run(&steps).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn blocks_added_and_freed_before_a_savepoint_are_gone_after_a_return_to_it() {
    let steps = [
        Step::Add { count: 1, byte: 7 },
        Step::Savepoint,
        Step::Drop { which: 0 },
        Step::Free { which: 0, count: 1 },
        Step::Savepoint,
        Step::Return { which: 0 },
        Step::Add { count: 1, byte: 8 },
        Step::Commit,
    ];
    assert_eq!(run(&steps), Ok(()));
}

#[test]
fn a_block_changed_after_each_of_two_savepoints_keeps_its_last_change() {
    let change = |byte| Step::Change { which: 0, byte };
    for forget in [Step::Forget { all: true }, Step::Drop { which: 0 }] {
        let steps = [
            Step::Add { count: 1, byte: 1 },
            Step::Savepoint,
            change(2),
            Step::Savepoint,
            forget,
            Step::Forget { all: false },
            change(3),
            Step::Commit,
        ];
        assert_eq!(run(&steps), Ok(()));
    }
}

#[test]
fn every_planted_fault_in_savepoints_is_caught() {
    for fault in PlantedFault::SAVEPOINTS {
        let mut runner = TestRunner::deterministic();
        let is_caught = (0..100).any(|_| {
            let steps = steps().new_tree(&mut runner).unwrap().current();
            with_planted_fault(fault, || run(&steps)).is_err()
        });
        assert!(is_caught, "{fault:?}");
    }
}

#[test]
fn a_block_that_a_savepoint_names_is_changed_in_a_shadow_block() {
    let (_, store, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    assert!(writer.is_fresh(block.position));
    let point = writer.savepoint().unwrap();
    assert!(!writer.is_fresh(block.position));
    let changed = change_block(&mut writer, block.position, 2).unwrap();
    let shadow = writer.redirects().source(block.position, changed.generation);
    assert_ne!(shadow, block.position);
    // No savepoint names the shadow block yet, so it is written again.
    let changed = change_block(&mut writer, block.position, 3).unwrap();
    assert_eq!(writer.redirects().source(block.position, changed.generation), shadow);
    let step = writer.generation().step;
    writer.roll_back_to(&point).unwrap();
    assert_eq!(writer.generation().step, step + 1);
    assert!(writer.redirects().is_empty());
    assert_eq!(read(&store, block).unwrap(), 1);
    // The shadow block is in the pool again.
    assert_eq!(writer.allocate(1, Urgency::Ordinary).unwrap().start(), shadow);
}

#[test]
fn a_block_is_written_in_place_again_once_no_savepoint_names_it() {
    let (_, _, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    let outer = writer.savepoint().unwrap();
    let later = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    let inner = writer.savepoint().unwrap();
    assert!(!writer.is_fresh(later.position));
    drop(inner);
    writer.forget_dropped_savepoints();
    assert!(writer.is_fresh(later.position) && !writer.is_fresh(block.position));
    drop(outer);
    writer.forget_dropped_savepoints();
    assert!(writer.is_fresh(later.position) && writer.is_fresh(block.position));
}

/// Each round seals blocks, makes a savepoint and frees the blocks of the round before.
fn blocks_after(rounds: u32, keep: impl Fn(&mut Vec<Savepoint>)) -> u32 {
    let (_, _, mut writer) = create();
    let mut points = vec![writer.savepoint().unwrap()];
    let mut before: Vec<Position> = Vec::new();
    for _ in 0..rounds {
        let now: Vec<Position> =
            (0..8).map(|_| add_block(&mut writer, KeyKind::Data, 1).unwrap().position).collect();
        for position in std::mem::replace(&mut before, now) {
            writer.free(Run::single(position));
        }
        points.push(writer.savepoint().unwrap());
        keep(&mut points);
    }
    writer.block_count()
}

#[test]
fn blocks_that_no_savepoint_names_any_more_are_allocated_again() {
    // A new savepoint for each change, with the first one held, or with the last one held.
    let first_held = blocks_after(1000, |points| points.truncate(1));
    let last_held = blocks_after(1000, |points| drop(points.drain(..points.len() - 1)));
    assert!(first_held < 600 && last_held < 600, "{first_held} and {last_held} blocks");
    assert!(blocks_after(1000, |_| {}) > 8000, "savepoints that are held keep their blocks");
}

#[test]
fn a_savepoint_belongs_to_one_transaction_of_one_writer() {
    let (_, _, mut writer) = create();
    let (_, _, mut other) = create();
    let point = writer.savepoint().unwrap();
    let _own = other.savepoint().unwrap();
    assert!(matches!(other.roll_back_to(&point), Err(Error::NoSavepoint)));
    writer.roll_back_to(&point).unwrap();
    writer.rollback().unwrap();
    assert!(matches!(writer.roll_back_to(&point), Err(Error::NoSavepoint)));
    let _own = writer.savepoint().unwrap();
    assert!(matches!(writer.roll_back_to(&point), Err(Error::NoSavepoint)));
}

#[test]
fn a_return_to_a_savepoint_that_fails_halfway_makes_the_writer_unusable() {
    let (_, store, mut writer) = create();
    let point = writer.savepoint().unwrap();
    writer.transaction.use_last_step();
    assert!(matches!(writer.roll_back_to(&point), Err(Error::Full { .. })));
    assert!(matches!(store.check_usable(), Err(Error::Poisoned { .. })));
    assert!(matches!(writer.savepoint(), Err(Error::Poisoned { .. })));
}
