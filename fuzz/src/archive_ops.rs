//! A whole archive on the simulated disk, compared with a model of its content. Streams are changed as bytes, as files
//! and through their cursors. Files, directories and links are created, moved and removed. The process and the machine
//! crash; the disk fails, loses or misplaces writes, or fills up.

use std::sync::OnceLock;

use ar7_engine::device::simulated::DiskFault;

use crate::crash::{
    Effort, Fixture, Operation, Step, byzantine_write_is_detected, failure_poisons,
    full_disk_leaves_the_handle_usable, run_steps,
};
use crate::unstructured::Unstructured;

/// Maximum number of steps.
const STEPS: usize = 24;

/// Few crashes for each scenario, because the fuzzer generates many scenarios.
const EFFORT: Effort = Effort {
    every_cut_up_to: 4,
    sampled_cuts: 2,
    crashes: 1,
    recovery_one_in: 8,
    reopen_one_in: 2,
};

/// The event that a scenario adds to its operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// The archive crashes, and the scenario continues with the state that the crash left.
    Crashes,
    /// A write or a sync fails.
    Failure(DiskFault),
    /// A write is acknowledged but lost, or misplaced.
    ByzantineWrite(DiskFault),
    /// The disk fills up.
    FullDisk,
}

/// Applies operations to an archive and its model as `bytes` direct. Returns the number of states checked after crashes
/// and faults, plus the number of operations that failed on a full disk.
///
/// # Panics
/// If the archive opens at anything other than the last acknowledged commit or the one in progress, does not verify,
/// reuses a nonce, continues after a failure of the disk, or does not continue after the disk was full.
pub fn archive_ops(bytes: &[u8]) -> u64 {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    let fixture = FIXTURE.get_or_init(Fixture::new);
    let mut unstructured = Unstructured::new(bytes);
    let (trial, number) = (any_trial(&mut unstructured), unstructured.byte());
    let number = u32::try_from(number).expect("a byte");
    let mut steps = Vec::new();
    while !unstructured.is_over() && steps.len() < STEPS {
        steps.push(any_step(&mut unstructured));
    }
    if trial == Trial::Crashes {
        let totals = run_steps(fixture, &steps, EFFORT, number.into());
        return totals.unwrap_or_else(|failure| panic!("{failure}\n{steps:?}")).states;
    }
    let operations: Vec<Operation> = steps.into_iter().filter_map(operation_of).collect();
    let at = u64::from(number % 64);
    let looked_at = match trial {
        Trial::Failure(fault) => failure_poisons(fixture, &operations, fault, at)
            .map(|found| found.map_or(0, |totals| totals.states)),
        Trial::ByzantineWrite(fault) => {
            byzantine_write_is_detected(fixture, &operations, fault, at)
                .map(|found| found.map_or(0, |(harmless, detected)| harmless + detected))
        }
        Trial::FullDisk | Trial::Crashes => {
            // The initial free space is enough for most inputs, so this uses some of it, or slightly more than all of
            // it.
            let filler = Operation::Create { length: number % 48 * 4008, name: None };
            let operations = [&[filler, Operation::Commit], &operations[..]].concat();
            full_disk_leaves_the_handle_usable(fixture, &operations, 0)
        }
    };
    looked_at.unwrap_or_else(|broken| panic!("{broken}"))
}

fn operation_of(step: Step) -> Option<Operation> {
    match step {
        Step::Do(operation) => Some(operation),
        Step::Crash | Step::Room(_) => None,
    }
}

/// The lowest bits select the trial; if they are 4, the remaining bits refine it.
fn any_trial(unstructured: &mut Unstructured<'_>) -> Trial {
    let how = unstructured.octet();
    let other = how >> 3;
    match how % 8 {
        5 => Trial::Failure(DiskFault::WriteFails),
        6 => Trial::Failure(DiskFault::WriteIsShort),
        7 => Trial::Failure(DiskFault::SyncFails),
        4 if other > 0 => match other % 4 {
            0 => Trial::FullDisk,
            1 => Trial::ByzantineWrite(DiskFault::WriteIsLost),
            // Any block that is not an ordinary data block, and some that are.
            odd => Trial::ByzantineWrite(DiskFault::WriteIsMisplaced(u32::from(
                (other >> 2) + 8 * (odd & 1),
            ))),
        },
        _ => Trial::Crashes,
    }
}

fn any_step(unstructured: &mut Unstructured<'_>) -> Step {
    let kind = unstructured.byte() % 40;
    let stream = u32::from(unstructured.octet() % 8);
    let name = unstructured.octet() % 6;
    match kind {
        18 | 39 => Step::Crash,
        19 => Step::Room([None, Some(0), Some(40), Some(300)][unstructured.below(4)]),
        0..18 => Step::Do(plain_operation(kind, stream, name, unstructured)),
        _ => Step::Do(other_operation(kind, stream, name, unstructured)),
    }
}

/// Returns an operation of the long scenarios.
fn plain_operation(
    kind: usize,
    stream: u32,
    name: u8,
    unstructured: &mut Unstructured<'_>,
) -> Operation {
    match kind {
        0..=2 => {
            Operation::Create { length: any_length(unstructured), name: (name > 1).then_some(name) }
        }
        3 | 4 => Operation::Append { stream, length: any_length(unstructured) },
        5 | 6 => {
            let offset = any_length(unstructured);
            Operation::Overwrite { stream, offset, length: any_length(unstructured) }
        }
        7 | 8 => Operation::Truncate { stream, length: any_length(unstructured) },
        9 | 10 => Operation::Delete { stream },
        11 => Operation::Rename { from: stream, to: name },
        12 => Operation::Meta(name),
        13..=15 => Operation::Commit,
        16 => Operation::Rollback,
        _ => Operation::Close,
    }
}

/// Returns an operation on a cursor, on a stream as a file, or on the tree of names.
fn other_operation(
    kind: usize,
    number: u32,
    name: u8,
    unstructured: &mut Unstructured<'_>,
) -> Operation {
    let stream = number;
    let mut inside = || u32::from(unstructured.octet() % 4);
    match kind {
        20 | 21 => Operation::Push { stream, is_counted: name.is_multiple_of(2) },
        22 => Operation::Pop { stream },
        23 | 24 => Operation::SetData { stream, block: name.into(), at: any_length(unstructured) },
        25 | 26 => {
            let offset = any_length(unstructured);
            Operation::WriteFile { stream, offset, length: any_length(unstructured) }
        }
        27 => Operation::SetFileLength { stream, length: any_length(unstructured) },
        28 | 29 => Operation::Directory { inside: inside(), name },
        31 => packing(number, name, unstructured),
        30 => Operation::File { inside: inside(), name, length: any_length(unstructured) },
        32 => Operation::Link { from: number, inside: inside(), name },
        33 => Operation::Symlink { inside: inside(), name, length: any_length(unstructured) },
        34 => Operation::Move { from: number, inside: inside(), name },
        35 => Operation::Remove { name: number },
        36 => Operation::RemoveTree { name: number },
        37 => Operation::Savepoint,
        38 => Operation::RollBackTo { point: number },
        _ => Operation::Commit,
    }
}

/// Returns an operation on packed content.
fn packing(number: u32, name: u8, unstructured: &mut Unstructured<'_>) -> Operation {
    let length = any_length(unstructured);
    match number % 4 {
        0 => Operation::PackHole { name, length },
        1 => {
            let offset = any_length(unstructured);
            Operation::ChangePacked { file: name.into(), offset, length }
        }
        _ => Operation::Pack { name, length },
    }
}

/// Returns a length, often near a block boundary, where faults are most likely.
fn any_length(unstructured: &mut Unstructured<'_>) -> u32 {
    match unstructured.octet() % 3 {
        0 => 4008 * u32::from(unstructured.octet() % 4) + u32::from(unstructured.octet() % 3),
        1 => u32::from(unstructured.octet()),
        _ => unstructured.quad() % 12_000,
    }
}

/// Returns initial inputs: each kind of change with a commit and a crash; each kind of failure; a full disk; one
/// scenario for blocks, files, names and links; lost and misplaced writes; packed content.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const COMMIT: &[u8] = &[13, 0, 0];
    const CRASH: &[u8] = &[18, 0, 0];
    let changes: [&[u8]; 6] = [
        &[0, 0, 2, 0, 2, 1],
        &[3, 1, 0, 2, 0, 0, 19, 136],
        &[5, 1, 0, 0, 1, 0, 1, 30],
        &[7, 1, 0, 0, 1, 1],
        &[9, 2, 0],
        &[11, 0, 3],
    ];
    let mut seeds: Vec<Vec<u8>> = changes
        .iter()
        .map(|change| [&[0, 0][..], change, COMMIT, change, CRASH].concat())
        .collect();
    seeds.extend((5..8).map(|how| [&[how, 9][..], changes[2], COMMIT, changes[0]].concat()));
    seeds.push([&[1, 1][..], &[19, 0, 0, 1], changes[1], COMMIT, changes[4]].concat());
    let more = more_scenarios();
    let twice = |steps: &[u8]| [&[0, 0][..], steps, COMMIT, CRASH, steps, CRASH].concat();
    seeds.extend(more.iter().map(|steps| twice(steps)));
    // A full disk, a lost write, one on a meta slot and one on an ordinary block.
    for (how, number) in [(36, 8), (12, 9), (84, 12), (60, 5)] {
        let steps = [changes[1], COMMIT, &more[2], COMMIT].concat();
        seeds.push([&[how, number][..], &steps].concat());
    }
    seeds.push(twice(&packed_scenario()));
    seeds
}

/// Returns the steps of scenarios: one kind of operation each, and savepoints around some of them.
fn more_scenarios() -> [Vec<u8>; 6] {
    const SAVEPOINT: &[u8] = &[37, 0, 0];
    let blocks: [&[u8]; 6] =
        [&[20, 1, 0], &[20, 1, 1], &[23, 1, 2, 1, 9], &[13, 0, 0], &[22, 1, 0], &[22, 1, 0]];
    let files: [&[u8]; 3] =
        [&[25, 0, 0, 0, 3, 1, 1, 50], &[27, 0, 0, 0, 2, 1], &[25, 2, 0, 1, 7, 2, 0, 0, 19, 136]];
    let names: [&[u8]; 4] =
        [&[28, 0, 2, 1], &[30, 0, 3, 2, 1, 90], &[30, 0, 3, 0, 1, 0], &[34, 1, 5, 0]];
    let links: [&[u8]; 4] =
        [&[32, 0, 4, 0], &[33, 0, 5, 0, 1, 9], &[33, 0, 2, 1, 0, 1, 0], &[3, 0, 0, 1, 40]];
    let gone: [&[u8]; 4] = [&[32, 0, 4, 1], &[35, 1, 0], &[36, 0, 0], &[0, 0, 2, 1, 70]];
    let append: &[u8] = &[3, 1, 0, 2, 0, 0, 19, 136];
    let overwrite: &[u8] = &[5, 1, 0, 0, 1, 0, 1, 30];
    let points = [append, SAVEPOINT, overwrite, SAVEPOINT, gone[0], append, &[38, 0, 0], overwrite];
    [
        blocks.concat(),
        files.concat(),
        names.concat(),
        links.concat(),
        gone.concat(),
        points.concat(),
    ]
}

/// Returns the steps of a scenario with packed content: files that share a frame, one with a hole, changes of each, a
/// replacement and a removal.
fn packed_scenario() -> Vec<u8> {
    const COMMIT: &[u8] = &[13, 0, 0];
    let steps: [&[u8]; 9] = [
        &[31, 2, 1, 1, 200],
        &[31, 2, 3, 1, 250],
        &[31, 0, 5, 2, 0, 0, 19, 136],
        COMMIT,
        &[31, 1, 2, 1, 90, 0, 2, 0],
        &[31, 1, 0, 1, 9, 1, 30],
        COMMIT,
        &[31, 2, 3, 1, 70],
        &[31, 2, 1, 1, 0],
    ];
    steps.concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem::discriminant;

    use super::*;
    use crate::Random;

    #[test]
    fn every_kind_of_step_is_generated() {
        let choices = (0..40).flat_map(|kind| (0..4).map(move |number| [kind, number, 1, 0, 1]));
        let steps = choices.map(|bytes| any_step(&mut Unstructured::new(&bytes)));
        let steps: Vec<Step> = steps.collect();
        let operations = steps.iter().copied().filter_map(operation_of);
        let kinds: HashSet<_> = operations.map(|operation| discriminant(&operation)).collect();
        assert_eq!(kinds.len(), 27, "all except reopening immediately and rekeying");
        assert!(
            steps.contains(&Step::Crash) && steps.iter().any(|step| matches!(step, Step::Room(_)))
        );
    }

    #[test]
    fn the_lowest_bits_select_the_trial_and_the_others_refine_it() {
        let trial = |how: u8| any_trial(&mut Unstructured::new(&[how]));
        let first = (0..8).map(trial).collect::<Vec<Trial>>();
        assert_eq!(first[..5], [Trial::Crashes; 5]);
        assert_eq!(first[6], Trial::Failure(DiskFault::WriteIsShort));
        let all: Vec<Trial> = (0..=255).map(trial).collect();
        let count = |wanted| all.iter().filter(|&&trial| trial == wanted).count();
        assert_eq!((count(Trial::Crashes), count(Trial::FullDisk)), (129, 7));
        assert_eq!(count(Trial::Failure(DiskFault::SyncFails)), 32);
        assert_eq!(count(Trial::ByzantineWrite(DiskFault::WriteIsLost)), 8);
        for position in 0..16 {
            assert_eq!(count(Trial::ByzantineWrite(DiskFault::WriteIsMisplaced(position))), 1);
        }
    }

    #[test]
    fn full_disks_and_byzantine_writes_occur() {
        let seed = &more_scenarios()[2];
        let full = |number| archive_ops(&[&[36, number], &seed[..]].concat());
        let refused = (0..48).map(full).sum::<u64>();
        assert!(refused >= 3, "only {refused} operations failed on a full disk");
        let lie = |number| archive_ops(&[&[12, number], &seed[..]].concat());
        let lies = (0..20).map(lie).sum::<u64>();
        assert!(lies > 5, "only {lies} lies");
    }

    /// Runs random operations. Returns the number of states of the disk.
    fn random_states(executions: u32) -> u64 {
        let mut random = Random::new(0x6172_6368);
        let states = (0..executions).map(|_| {
            let mut bytes = [0; 100];
            random.fill(&mut bytes);
            archive_ops(&bytes)
        });
        states.sum()
    }

    #[test]
    fn any_operations_crashes_and_faults_lose_nothing() {
        let states = random_states(16);
        assert!(states > 200, "only {states} states");
    }

    #[test]
    #[ignore = "seconds: `cargo xtask proof` runs it"]
    fn many_operations_crashes_and_faults_lose_nothing() {
        let seeded: u64 = seeds().iter().map(|seed| archive_ops(seed)).sum();
        let states = random_states(40) + seeded;
        assert!(states > 1000, "only {states} states");
    }
}
