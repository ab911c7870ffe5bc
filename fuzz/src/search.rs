//! A small fuzzer for stable Rust: seeded, without coverage feedback, and the same on every machine. It checks that the
//! targets find planted faults where libFuzzer cannot run. Campaigns use libFuzzer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ar7_engine::{PlantedFault, with_planted_fault};

use crate::bytes::mutate;
use crate::corpus::Inputs;
use crate::targets::Target;
use crate::{Random, crash};

/// An input that breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The number of inputs tried, including this one.
    pub executions: u64,
    /// The input.
    pub input: Vec<u8>,
    /// The message of the panic.
    pub message: String,
}

/// Tries the target's seeds, then `executions` mutations of them. Stops at the first input that breaks the promise.
pub fn search(target: &Target, seed: u64, executions: u64) -> Option<Found> {
    crash::single_threaded(|| search_blindly(target, seed, executions))
}

/// Does the same with a planted fault in the commit protocol.
pub fn search_with_fault(
    target: &Target,
    fault: PlantedFault,
    seed: u64,
    executions: u64,
) -> Option<Found> {
    crash::single_threaded(|| {
        with_planted_fault(fault, || search_blindly(target, seed, executions))
    })
}

fn search_blindly(target: &Target, seed: u64, executions: u64) -> Option<Found> {
    let mut random = Random::new(seed);
    let seeds = seeds(target);
    let mut tried = 0;
    let mut try_one = |input: Vec<u8>| {
        tried += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let panicked = outcome.err()?;
        let message = match (panicked.downcast_ref::<String>(), panicked.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => (*text).to_owned(),
            _ => "a panic without a message".to_owned(),
        };
        Some(Found { executions: tried, input, message })
    };
    // Values that are computed once and cached must be computed without the fault. The caller's first call does that.
    let found = seeds.iter().find_map(|input| try_one(input.clone()));
    found.or_else(|| (0..executions).find_map(|_| try_one(changed(&seeds, target, &mut random))))
}

/// Returns the seeds in the tree. They are not regenerated, because the code that makes them may be patched.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let seeds = Inputs::Seeds.read(target).expect("the tree has seeds of every target");
    seeds.into_iter().map(|(_, bytes)| bytes).collect()
}

/// Returns arbitrary bytes, or a seed with some changes and pieces of other seeds.
fn changed(seeds: &[Vec<u8>], target: &Target, random: &mut Random) -> Vec<u8> {
    let mut input = match random.choose(seeds) {
        Some(seed) if !random.one_in(4) => seed.clone(),
        _ => any_bytes(random, target.length_max.min(400)),
    };
    for _ in 0..=random.below(4) {
        let at = below(random, input.len() + 1);
        match random.below(6) {
            0 => {
                let more = any_bytes(random, 40);
                input.splice(at..at, more);
            }
            1 => {
                let end = (at + below(random, 30)).min(input.len());
                input.drain(at..end);
            }
            2 => {
                if let Some(other) = random.choose(seeds) {
                    let from = below(random, other.len() + 1);
                    let to = (from + below(random, 60)).min(other.len());
                    input.splice(at..at, other[from..to].iter().copied());
                }
            }
            _ if !input.is_empty() => mutate(&mut input, random),
            _ => {}
        }
    }
    input.truncate(target.length_max);
    input
}

fn any_bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; below(random, most + 1)];
    random.fill(&mut bytes);
    bytes
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap_or(0)
}
