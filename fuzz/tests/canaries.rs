//! Every target is able to fail: planted mistakes are found within a stated number of executions, and where nothing is
//! planted nothing is found.

use ar7_engine::PlantedFault;
use ar7_engine::mistakes::Mistake;
use ar7_fuzz::hunt::{Found, hunt, hunt_fault, hunt_mistake};
use ar7_fuzz::{TARGETS, Target, target};

/// The seed of every hunt.
const SEED: u64 = 7;

/// A mistake, the target that finds it, and within how many executions.
const MISTAKES: [(Mistake, &str, u64); 19] = [
    (Mistake::PositionCutShort, "sealed_block_open", 100),
    (Mistake::DigestUnchecked, "sealed_block_open", 100),
    (Mistake::LastLane, "batch_seal", 100),
    (Mistake::NoncesRepeat, "batch_seal", 100),
    (Mistake::ShortFileUnchecked, "archive_open", 500),
    (Mistake::CellsUnbounded, "archive_forged", 3000),
    (Mistake::NamesUnchecked, "archive_forged", 3000),
    (Mistake::DuplicateNames, "name_ops", 100),
    (Mistake::LinksUncounted, "name_ops", 100),
    (Mistake::EmptyWriteAddsABlock, "cursor_ops", 200),
    (Mistake::KeyLostAtRootSplit, "tree_ops", 100),
    (Mistake::WalkSkipsTheFirst, "tree_ops", 100),
    (Mistake::BlocksSkipTheFirst, "cursor_ops", 100),
    (Mistake::PopKeepsTheLength, "cursor_ops", 100),
    (Mistake::StaleTail, "stream_file", 200),
    (Mistake::AppendAtTheOffset, "stream_file", 200),
    (Mistake::OffsetsWrap, "stream_file", 200),
    (Mistake::ReceiptUnchecked, "cli_args", 2000),
    (Mistake::SizesWrap, "cli_args", 2000),
];

/// A fault in the commit protocol, likewise.
const FAULTS: [(PlantedFault, &str, u64); 3] = [
    (PlantedFault::SkipSecondSync, "archive_ops", 100),
    (PlantedFault::ReuseFreedBlocks, "archive_ops", 100),
    (PlantedFault::FallBack, "archive_open", 500),
];

/// Runs the target once, so that what it keeps is made before anything is planted.
fn prepared(name: &str) -> &'static Target {
    let target = target(name).expect("a target of this name");
    assert_eq!(hunt(target, SEED, 0), None, "the seeds of {name}");
    target
}

fn check_found(what: &str, name: &str, found: Option<Found>) {
    let found = found.unwrap_or_else(|| panic!("{name} does not find {what}"));
    println!("{what}: {name}, {} executions: {}", found.executions, found.message);
}

#[test]
fn every_planted_mistake_is_found() {
    assert!(Mistake::ALL.iter().all(|known| MISTAKES.iter().any(|(listed, ..)| listed == known)));
    for (mistake, name, executions) in MISTAKES {
        let found = hunt_mistake(prepared(name), mistake, SEED, executions);
        check_found(&format!("{mistake:?}"), name, found);
    }
}

#[test]
fn planted_faults_of_the_protocol_are_found_by_operations_too() {
    for (fault, name, executions) in FAULTS {
        let found = hunt_fault(prepared(name), fault, SEED, executions);
        check_found(&format!("{fault:?}"), name, found);
    }
}

#[test]
fn where_nothing_is_planted_nothing_is_found() {
    for target in TARGETS {
        let executions = if target.name == "archive_ops" { 50 } else { 300 };
        assert_eq!(hunt(target, SEED, executions), None, "{}", target.name);
    }
}
