//! A whole archive against a model of what it holds, on the simulated disk: streams and names are made, changed and
//! deleted; the process and the machine die, the disk fails or is full.

use std::sync::OnceLock;

use ar7_engine::device::simulated::DiskFault;

use crate::choices::Choices;
use crate::crash::{Beginning, Effort, Operation, Step, failure_poisons, run_steps};

/// Steps at most.
const STEPS: usize = 24;

/// Few deaths of each world: the fuzzer makes many worlds.
const EFFORT: Effort =
    Effort { every_cut_up_to: 4, sampled_cuts: 2, deaths: 1, recovery_one_in: 8, reopen_one_in: 2 };

/// Does to an archive and to its model what `bytes` say. Returns the number of states after deaths and failures that
/// were looked at.
///
/// # Panics
/// If the archive opens at anything but the last acknowledged commit or the one under way, does not verify, uses a
/// nonce twice, or goes on after a failure of the disk.
pub fn archive_ops(bytes: &[u8]) -> u64 {
    static BEGINNING: OnceLock<Beginning> = OnceLock::new();
    let beginning = BEGINNING.get_or_init(Beginning::new);
    let mut choices = Choices::new(bytes);
    let (how, number) = (choices.byte(), choices.byte());
    let number = u64::try_from(number).expect("a byte");
    let mut steps = Vec::new();
    while !choices.is_over() && steps.len() < STEPS {
        steps.push(any_step(&mut choices));
    }
    let fault = match how % 8 {
        5 => DiskFault::WriteFails,
        6 => DiskFault::WriteIsShort,
        7 => DiskFault::SyncFails,
        _ => {
            let totals = run_steps(beginning, &steps, EFFORT, number);
            return totals.unwrap_or_else(|failure| panic!("{failure}\n{steps:?}")).states;
        }
    };
    let operations: Vec<Operation> = steps.into_iter().filter_map(operation_of).collect();
    let found = failure_poisons(beginning, &operations, fault, number % 64);
    let found = found.unwrap_or_else(|broken| panic!("{broken}"));
    found.map_or(0, |totals| totals.states)
}

fn operation_of(step: Step) -> Option<Operation> {
    match step {
        Step::Do(operation) => Some(operation),
        Step::Die | Step::Room(_) => None,
    }
}

fn any_step(choices: &mut Choices<'_>) -> Step {
    let kind = choices.byte() % 20;
    let stream = u32::from(choices.octet() % 8);
    let name = choices.octet() % 6;
    Step::Do(match kind {
        0..=2 => {
            Operation::Create { length: any_length(choices), name: (name > 1).then_some(name) }
        }
        3 | 4 => Operation::Append { stream, length: any_length(choices) },
        5 | 6 => {
            let offset = any_length(choices);
            Operation::Overwrite { stream, offset, length: any_length(choices) }
        }
        7 | 8 => Operation::Truncate { stream, length: any_length(choices) },
        9 | 10 => Operation::Delete { stream },
        11 => Operation::Rename { from: stream, to: name },
        12 => Operation::Meta(name),
        13..=15 => Operation::Commit,
        16 => Operation::Rollback,
        17 => Operation::Close,
        18 => return Step::Die,
        _ => return Step::Room([None, Some(0), Some(40), Some(300)][choices.below(4)]),
    })
}

/// Borders of blocks are where faults are.
fn any_length(choices: &mut Choices<'_>) -> u32 {
    match choices.octet() % 3 {
        0 => 4008 * u32::from(choices.octet() % 4) + u32::from(choices.octet() % 3),
        1 => u32::from(choices.octet()),
        _ => choices.quad() % 12_000,
    }
}

/// Inputs to begin with: each kind of change with a commit and a death; each kind of failure; a full disk.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
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
        .map(|change| [&[0, 0][..], change, &[13, 0, 0], change, &[18, 0, 0]].concat())
        .collect();
    seeds.extend((5..8).map(|how| [&[how, 9][..], changes[2], &[13, 0, 0], changes[0]].concat()));
    seeds.push([&[1, 1][..], &[19, 0, 0, 1], changes[1], &[13, 0, 0], changes[4]].concat());
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_operations_deaths_and_faults_lose_nothing() {
        let mut random = Random::new(0x6172_6368);
        let mut states = 0;
        for _ in 0..100 {
            let mut bytes = [0; 100];
            random.fill(&mut bytes);
            states += archive_ops(&bytes);
        }
        states += seeds().iter().map(|seed| archive_ops(seed)).sum::<u64>();
        assert!(states > 2000, "only {states} states");
    }
}
