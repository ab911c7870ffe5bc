//! Every target is able to fail: planted mistakes are found within a stated number of executions, and where nothing is
//! planted nothing is found.

use std::collections::BTreeSet;
use std::path::Path;

use ar7_engine::PlantedFault;
use ar7_engine::mistakes::Mistake;
use ar7_fuzz::patches::{Patch, patches};
use ar7_fuzz::search::{Found, search, search_with_fault, search_with_mistake};
use ar7_fuzz::{TARGETS, Target, target};

/// The seed of every search.
const SEED: u64 = 7;

/// A mistake, the target that finds it, and within how many executions.
const MISTAKES: [(Mistake, &str, u64); 41] = [
    (Mistake::SelfLinks, "block_parse", 3000),
    (Mistake::LinksBeyondTheEnd, "block_parse", 3000),
    (Mistake::StreamLengthUnchecked, "stream_record_parse", 3000),
    (Mistake::StreamFlagsIgnored, "stream_record_parse", 3000),
    (Mistake::ExtentsWrap, "extent_parse", 3000),
    (Mistake::EmptyExtents, "extent_parse", 3000),
    (Mistake::HeaderTailDropped, "header_parse", 3000),
    (Mistake::HeaderLengthUnchecked, "header_parse", 3000),
    (Mistake::InodeFieldsDropped, "inode_parse", 3000),
    (Mistake::InodeFieldsTwice, "inode_parse", 3000),
    (Mistake::LabelLengthUnchecked, "key_slot_parse", 3000),
    (Mistake::CostsOfRawKeys, "key_slot_parse", 3000),
    (Mistake::SlotCountsUnchecked, "meta_slot_parse", 20_000),
    (Mistake::LooseRunsOverlap, "meta_slot_parse", 3000),
    (Mistake::NamesUnchecked, "name_parse", 3000),
    (Mistake::EntryTypesUnchecked, "name_parse", 3000),
    (Mistake::CellsUnbounded, "page_parse", 3000),
    (Mistake::KeysInAnyOrder, "page_parse", 3000),
    (Mistake::RedoCountUnchecked, "redo_parse", 3000),
    (Mistake::CellsUnbounded, "tree_change", 100),
    (Mistake::KeysInAnyOrder, "tree_change", 100),
    (Mistake::TruncateKeepsTheLength, "stream_file", 200),
    (Mistake::CellsUnbounded, "archive_forged", 3000),
    (Mistake::NamesUnchecked, "archive_forged", 3000),
    (Mistake::DuplicateNames, "name_ops", 100),
    (Mistake::LinksUncounted, "name_ops", 100),
    (Mistake::EmptyWriteAddsABlock, "cursor_ops", 200),
    (Mistake::LinksUncounted, "archive_ops", 100),
    (Mistake::PopKeepsTheLength, "archive_ops", 100),
    (Mistake::StaleTail, "archive_ops", 200),
    (Mistake::KeyLostAtRootSplit, "tree_ops", 100),
    (Mistake::WalkSkipsTheFirst, "tree_ops", 100),
    (Mistake::BlocksSkipTheFirst, "cursor_ops", 100),
    (Mistake::PopKeepsTheLength, "cursor_ops", 100),
    (Mistake::StaleTail, "stream_file", 200),
    (Mistake::AppendAtTheOffset, "stream_file", 200),
    (Mistake::OffsetsWrap, "stream_file", 200),
    (Mistake::SizesWrap, "cli_args", 2000),
    (Mistake::RefusalsUnnamed, "stream_file", 200),
    (Mistake::ReceiptsTrimmed, "cli_args", 2000),
    (Mistake::LooseNumbers, "cli_args", 2000),
];

/// A fault in the commit protocol, likewise.
const FAULTS: [(PlantedFault, &str, u64); 17] = [
    (PlantedFault::PositionCutShort, "sealed_block_open", 100),
    (PlantedFault::DigestUnchecked, "sealed_block_open", 100),
    (PlantedFault::LastLane, "batch_seal", 100),
    (PlantedFault::NoncesRepeat, "batch_seal", 100),
    (PlantedFault::ShortFileUnchecked, "archive_open", 500),
    (PlantedFault::GrownFileRefused, "archive_ops", 100),
    (PlantedFault::ChainWithoutEnd, "archive_forged", 100),
    (PlantedFault::ReceiptUnchecked, "cli_args", 2000),
    (PlantedFault::TrustRedoTargets, "redo_parse", 3000),
    (PlantedFault::TrustTheLength, "archive_ops", 500),
    (PlantedFault::IgnoreTheGeneration, "archive_open", 500),
    (PlantedFault::DropThePosition, "sealed_block_open", 500),
    (PlantedFault::OneKeyForAllKinds, "sealed_block_open", 500),
    (PlantedFault::SkipSecondSync, "archive_ops", 100),
    (PlantedFault::ReuseFreedBlocks, "archive_ops", 100),
    (PlantedFault::FallBack, "archive_open", 500),
    (PlantedFault::ReuseFreedBlocks, "tree_ops", 100),
];

/// Failures that stores of this kind have had, and that this design could share; each is planted, and found.
const FAILURES_OF_PEERS: [(&str, Planted); 10] = [
    ("a key is lost when the root splits", Planted::Mistake(Mistake::KeyLostAtRootSplit)),
    ("a crash while the file grows", Planted::Fault(PlantedFault::GrownFileRefused)),
    ("blocks are used again too early", Planted::Fault(PlantedFault::ReuseFreedBlocks)),
    ("a stale page is accepted", Planted::Fault(PlantedFault::IgnoreTheGeneration)),
    ("a chain has no end", Planted::Fault(PlantedFault::ChainWithoutEnd)),
    ("offsets overflow beyond 4 GiB", Planted::Mistake(Mistake::OffsetsWrap)),
    ("an entry has no length", Planted::Mistake(Mistake::EmptyWriteAddsABlock)),
    ("a name is given twice", Planted::Mistake(Mistake::DuplicateNames)),
    ("a walk skips the first block", Planted::Mistake(Mistake::BlocksSkipTheFirst)),
    ("truncating leaves an offset stale", Planted::Mistake(Mistake::TruncateKeepsTheLength)),
];

/// What a search looks for.
enum Planted {
    Mistake(Mistake),
    Fault(PlantedFault),
}

/// Runs the target once, so that what it keeps is made before anything is planted.
fn prepared(name: &str) -> &'static Target {
    let target = target(name).expect("a target of this name");
    assert_eq!(search(target, SEED, 0), None, "the seeds of {name}");
    target
}

/// Notes what was not found.
fn note(missed: &mut Vec<String>, what: &str, name: &str, found: Option<Found>) {
    match found {
        Some(found) => {
            println!("{what}: {name}, {} executions: {}", found.executions, found.message);
        }
        None => missed.push(format!("{name} does not find {what}")),
    }
}

/// The top of the tree.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace")
}

/// The patches listed in the tree. `cargo xtask patches` builds each and searches for it.
fn listed() -> Vec<Patch> {
    patches(root()).unwrap_or_else(|unusable| panic!("{unusable}"))
}

/// Whether a patch has replaced this mistake.
fn is_replaced(mistake: Mistake, patches: &[Patch]) -> bool {
    let mut name = String::new();
    for letter in format!("{mistake:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    patches.iter().any(|patch| patch.name == name)
}

#[test]
fn every_target_has_two_canaries() {
    let patches = listed();
    for target in TARGETS {
        let is_found = |(name, _): &&(String, u64)| name == target.name;
        let patches = patches.iter().flat_map(|patch| &patch.targets).filter(is_found).count();
        let mistakes = MISTAKES.iter().filter(|(_, name, _)| *name == target.name).count();
        let faults = FAULTS.iter().filter(|(_, name, _)| *name == target.name).count();
        let canaries = patches + mistakes + faults;
        assert!(canaries >= 2, "{} has {canaries}", target.name);
    }
}

#[test]
fn every_patch_applies_once_and_names_targets() {
    let mut names = BTreeSet::new();
    for patch in listed() {
        let Patch { name, what, targets, .. } = &patch;
        assert!(names.insert(name.clone()), "{name} is listed twice");
        let is_kebab = name.split('-').all(|word| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        assert!(is_kebab, "{name} is not in kebab case");
        assert!(what.ends_with('.'), "{name}: {what:?} is not a sentence");
        let patched = patch.patched(root()).unwrap_or_else(|unusable| panic!("{unusable}"));
        let source = std::fs::read_to_string(root().join(&patch.file)).expect("it was patched");
        assert_ne!(patched, source, "{name} changes nothing");
        assert!(!targets.is_empty(), "{name} names no target");
        for (name, executions) in targets {
            assert!(target(name).is_some() && *executions > 0, "{}: {name}", patch.name);
        }
    }
}

#[test]
fn every_failure_of_the_peers_is_planted() {
    for (failure, planted) in FAILURES_OF_PEERS {
        let is_searched = match planted {
            Planted::Mistake(mistake) => MISTAKES.iter().any(|(listed, ..)| *listed == mistake),
            Planted::Fault(fault) => FAULTS.iter().any(|(listed, ..)| *listed == fault),
        };
        assert!(is_searched, "{failure}");
    }
}

#[test]
fn every_planted_mistake_is_found() {
    assert!(Mistake::ALL.iter().all(|known| MISTAKES.iter().any(|(listed, ..)| listed == known)));
    let mut missed = Vec::new();
    let patches = listed();
    for (mistake, name, executions) in MISTAKES {
        if is_replaced(mistake, &patches) {
            continue;
        }
        let found = search_with_mistake(prepared(name), mistake, SEED, executions);
        note(&mut missed, &format!("{mistake:?}"), name, found);
    }
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn planted_faults_of_the_protocol_are_found_by_operations_too() {
    let mut missed = Vec::new();
    for (fault, name, executions) in FAULTS {
        let found = search_with_fault(prepared(name), fault, SEED, executions);
        note(&mut missed, &format!("{fault:?}"), name, found);
    }
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn where_nothing_is_planted_nothing_is_found() {
    for target in TARGETS {
        let executions = if target.name == "archive_ops" { 50 } else { 300 };
        assert_eq!(search(target, SEED, executions), None, "{}", target.name);
    }
}
