//! Every fuzz target can fail: each planted fault is found within a stated number of executions, and without a fault
//! nothing is found. `cargo xtask patches` shows the same for the one-line patches, which need separate builds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ar7_engine::PlantedFault;
use ar7_fuzz::patches::{Patch, patches};
use ar7_fuzz::search::{Found, search, search_with_fault};
use ar7_fuzz::{TARGETS, Target, target};

/// The seed of every search.
const SEED: u64 = 7;

/// A planted fault, the target that finds it, and the maximum number of executions.
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
    (PlantedFault::FallBack, "archive_open", 2000),
    (PlantedFault::ReuseFreedBlocks, "tree_ops", 100),
];

/// Failures of comparable stores that this one could share. Each is planted as a fault or a patch.
const FAILURES_OF_PEERS: [(&str, Planted); 10] = [
    ("a key is lost when the root splits", Planted::Patch("key-lost-at-root-split")),
    ("a crash while the file grows", Planted::Fault(PlantedFault::GrownFileRefused)),
    ("blocks are reused too early", Planted::Fault(PlantedFault::ReuseFreedBlocks)),
    ("a stale page is accepted", Planted::Fault(PlantedFault::IgnoreTheGeneration)),
    ("a chain is endless", Planted::Fault(PlantedFault::ChainWithoutEnd)),
    ("offsets overflow beyond 4 GiB", Planted::Patch("offsets-wrap")),
    ("an entry has no length", Planted::Patch("empty-write-adds-a-block")),
    ("a name occurs twice", Planted::Patch("duplicate-names")),
    ("a walk skips the first block", Planted::Patch("blocks-skip-the-first")),
    ("truncating leaves an offset stale", Planted::Patch("truncate-keeps-the-length")),
];

/// How a failure is planted.
enum Planted {
    /// A patch, by its name.
    Patch(&'static str),
    Fault(PlantedFault),
}

/// Returns the target after one run without a fault, so that no cached value is computed with one.
fn prepared(name: &str) -> &'static Target {
    let target = target(name).expect("a target of this name");
    assert_eq!(search(target, SEED, 0), None, "the seeds of {name}");
    target
}

/// Prints the finding, or records that the fault was missed.
fn note(missed: &mut Vec<String>, what: &str, name: &str, found: Option<Found>) {
    match found {
        Some(found) => {
            println!("{what}: {name}, {} executions: {}", found.executions, found.message);
        }
        None => missed.push(format!("{name} does not find {what}")),
    }
}

/// Returns the root of the tree.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace")
}

/// Returns the patches listed in the tree. `cargo xtask patches` builds and searches each.
fn listed() -> Vec<Patch> {
    patches(root()).unwrap_or_else(|unusable| panic!("{unusable}"))
}

#[test]
fn every_target_has_two_canaries() {
    let patches = listed();
    for target in TARGETS {
        let is_found = |(name, _): &&(String, u64)| name == target.name;
        let patches = patches.iter().flat_map(|patch| &patch.targets).filter(is_found).count();
        let faults = FAULTS.iter().filter(|(_, name, _)| *name == target.name).count();
        let canaries = patches + faults;
        assert!(canaries >= 2, "{} has {canaries}", target.name);
    }
}

#[test]
fn every_patch_applies_once_and_names_targets() {
    let mut names = BTreeSet::new();
    for patch in listed() {
        let Patch { name, what, targets, campaigns, .. } = &patch;
        assert!(names.insert(name.clone()), "{name} is listed twice");
        let is_kebab = name.split('-').all(|word| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        assert!(is_kebab, "{name} is not in kebab case");
        assert!(what.ends_with('.'), "{name}: {what:?} is not a sentence");
        let patched = patch.patched(root()).unwrap_or_else(|unusable| panic!("{unusable}"));
        let source = std::fs::read_to_string(root().join(&patch.file)).expect("the patched file");
        assert_ne!(patched, source, "{name} changes nothing");
        let is_named = !targets.is_empty() || !campaigns.is_empty();
        assert!(is_named, "{name} names neither a target nor a campaign");
        assert!(campaigns.iter().all(|campaign| !campaign.is_empty()), "{name}");
        for (name, executions) in targets {
            assert!(target(name).is_some() && *executions > 0, "{}: {name}", patch.name);
        }
    }
}

#[test]
fn every_failure_of_peers_is_planted() {
    let patches = listed();
    for (failure, planted) in FAILURES_OF_PEERS {
        let is_searched = match planted {
            Planted::Patch(name) => patches.iter().any(|patch| patch.name == name),
            Planted::Fault(fault) => FAULTS.iter().any(|(listed, ..)| *listed == fault),
        };
        assert!(is_searched, "{failure}");
    }
}

#[test]
fn every_planted_fault_is_found_by_its_target() {
    let mut missed = Vec::new();
    let names: BTreeSet<&str> = FAULTS.iter().map(|(_, name, _)| *name).collect();
    let targets: BTreeMap<&str, &Target> =
        names.into_iter().map(|name| (name, prepared(name))).collect();
    for (fault, name, executions) in FAULTS {
        let found = search_with_fault(targets[name], fault, SEED, executions);
        note(&mut missed, &format!("{fault:?}"), name, found);
    }
    assert_eq!(missed, Vec::<String>::new());
}

/// Searches each target without a fault. One execution of `archive_ops` takes as long as several of the others.
fn check_without_a_fault(seed: u64, executions: u64) {
    for target in TARGETS {
        let executions = if target.name == "archive_ops" { executions / 2 } else { executions };
        assert_eq!(search(target, seed, executions), None, "{}", target.name);
    }
}

#[test]
fn without_a_fault_nothing_is_found() {
    check_without_a_fault(SEED, 100);
}

#[test]
#[ignore = "a minute: `cargo xtask proof` runs it"]
fn without_a_fault_a_longer_search_finds_nothing() {
    check_without_a_fault(SEED, 300);
}
