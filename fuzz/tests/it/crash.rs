//! Promise 1: after a crash of the process or the machine at any moment, an archive opens at the last acknowledged
//! commit or at the one in progress. It is complete, verifies, loses nothing in another crash during recovery, and is
//! writable again. A failing disk causes an error, and damage to one of two copies loses nothing.

use ar7_engine::PlantedFault;
use ar7_fuzz::crash::{
    Effort, Fixture, Operation, Scenario, Totals, byzantine_writes_are_detected, caught,
    caught_by_readers, caught_in_compaction, caught_in_large_scenarios, caught_in_packs,
    caught_in_rekey, caught_in_repairs, caught_in_third_copies, corruption_is_detected,
    explore_compactions, explore_large_scenario, explore_long_scenarios, explore_packs,
    explore_readers, explore_repairs, explore_scenarios, explore_third_copies, explore_windows,
    failures_poison, false_alarm, full_disk_leaves_the_handle_usable, long_fixture,
    readers_keep_their_blocks, rekey_scenarios, small_scenarios, unreadable_blocks_are_errors,
};

use super::check_kept;

/// The effort of the full enumeration: after every crash, one of the recovery and one of the recovery after that.
const FULL: Effort = Effort {
    every_cut_up_to: 64,
    sampled_cuts: 16,
    crashes: 3,
    recovery_one_in: 16,
    reopen_one_in: 1,
};

/// Explores every crash of each sequence of one to `operations` operations.
fn every_crash(operations: usize, effort: Effort) -> Totals {
    let totals = check_kept(explore_scenarios(&small_scenarios(operations), effort, 1, &|_| {}));
    println!("{totals}");
    totals
}

#[test]
fn every_crash_of_one_operation_loses_nothing() {
    let totals = every_crash(1, Effort { crashes: 2, ..FULL });
    assert_eq!(totals.scenarios, 13);
    assert!(totals.states >= 2000, "only {} states", totals.states);
}

#[test]
#[ignore = "minutes: `cargo xtask proof` runs it"]
fn every_crash_of_two_operations_loses_nothing() {
    let totals = every_crash(2, FULL);
    assert_eq!(totals.scenarios, 13 + 169);
    assert!(totals.states >= 200_000, "only {} states", totals.states);
}

/// Explores crashes of a rekey: of one window with `effort`, and `sampled_cuts` of three windows. Returns the numbers of
/// states.
fn crashes_of_rekeys(effort: Effort, sampled_cuts: u64) -> [u64; 2] {
    let one = check_kept(explore_scenarios(&rekey_scenarios(), effort, 1, &|_| {}));
    println!("one window: {one}");
    let effort = Effort { sampled_cuts, crashes: 1, ..effort };
    let three = check_kept(explore_windows(3, effort, 1));
    println!("three windows: {three}");
    [one, three].map(|totals| totals.states)
}

/// The effort of the full exploration of rekeys.
const REKEY: Effort = Effort {
    every_cut_up_to: 16,
    sampled_cuts: 10,
    crashes: 2,
    recovery_one_in: 512,
    reopen_one_in: 4,
};

#[test]
fn crashes_while_the_master_key_is_changed_lose_nothing() {
    let effort = Effort {
        every_cut_up_to: 8,
        sampled_cuts: 2,
        recovery_one_in: 1024,
        reopen_one_in: 16,
        ..REKEY
    };
    let [one, three] = crashes_of_rekeys(effort, 24);
    assert!(one >= 2000, "only {one} states");
    assert!(three >= 60, "only {three} states");
}

#[test]
#[ignore = "half a minute: `cargo xtask proof` runs it"]
fn many_crashes_while_the_master_key_is_changed_lose_nothing() {
    let [one, three] = crashes_of_rekeys(REKEY, 60);
    assert!(one >= 8000, "only {one} states");
    assert!(three >= 100, "only {three} states");
}

/// Explores crashes of compactions. Returns the number of states.
fn crashes_of_compactions(rounds: u64, effort: Effort) -> u64 {
    let totals = check_kept(explore_compactions(rounds, effort, 1));
    println!("{totals}");
    totals.states
}

#[test]
fn crashes_while_an_archive_is_compacted_lose_nothing() {
    let effort = Effort { sampled_cuts: 40, recovery_one_in: 64, ..REKEY };
    let states = crashes_of_compactions(1, effort);
    assert!(states >= 100, "only {states} states");
}

#[test]
#[ignore = "half a minute: `cargo xtask proof` runs it"]
fn many_crashes_while_an_archive_is_compacted_lose_nothing() {
    let states = crashes_of_compactions(24, Effort { sampled_cuts: 60, ..REKEY });
    assert!(states >= 5000, "only {states} states");
}

#[test]
fn crashes_of_a_repair_lose_nothing_and_the_next_repair_completes_it() {
    let states = check_kept(explore_repairs(2, 1));
    println!("{states} states");
    assert!(states >= 200, "only {states} states");
}

#[test]
#[ignore = "a minute: `cargo xtask proof` runs it"]
fn many_crashes_of_repairs_lose_nothing() {
    let states = check_kept(explore_repairs(40, 100));
    println!("{states} states");
    assert!(states >= 4000, "only {states} states");
}

/// A repair that seals good copies again, in their places.
#[test]
fn a_repair_that_changes_good_copies_is_caught_by_its_crashes() {
    let caught = caught_in_repairs(PlantedFault::ResealGoodSlots);
    println!("{caught:?}");
    assert!(caught.is_some());
}

/// Files that share a frame and one with a hole are replaced, changed, removed and moved.
#[test]
fn crashes_while_packed_content_changes_lose_nothing() {
    let effort = Effort { every_cut_up_to: 8, sampled_cuts: 2, recovery_one_in: 256, ..REKEY };
    check_packs(effort, 1, 1000);
}

#[test]
#[ignore = "half a minute: `cargo xtask proof` runs it"]
fn many_crashes_while_packed_content_changes_lose_nothing() {
    // These scenarios have many events: the effort of the others would take many minutes.
    let effort = Effort { every_cut_up_to: 32, sampled_cuts: 8, recovery_one_in: 128, ..REKEY };
    check_packs(effort, 2, 5000);
}

fn check_packs(effort: Effort, seed: u64, least: u64) {
    let totals = check_kept(explore_packs(effort, seed));
    println!("{totals}");
    assert!(totals.states >= least, "only {} states", totals.states);
}

#[test]
fn faults_in_packed_content_are_caught_by_crashes() {
    let faults =
        [PlantedFault::KeepLiveBytes, PlantedFault::MovedFrameStays, PlantedFault::HoleWithData];
    let missed = faults.into_iter().filter(|&fault| caught_in_packs(fault).is_none());
    assert_eq!(missed.collect::<Vec<_>>(), []);
}

/// Explores crashes in long random scenarios. Returns the number of states.
fn long_scenarios(count: usize) -> u64 {
    let effort = Effort {
        every_cut_up_to: 16,
        sampled_cuts: 8,
        crashes: 2,
        recovery_one_in: 4,
        reopen_one_in: 1,
    };
    let totals = check_kept(explore_long_scenarios(1, count, effort, &|_| {}));
    println!("{totals}");
    totals.states
}

#[test]
fn long_scenarios_of_repeated_crashes_lose_nothing() {
    let states = long_scenarios(20);
    assert!(states >= 2000, "only {states} states");
}

#[test]
#[ignore = "half a minute: `cargo xtask proof` runs it"]
fn many_long_scenarios_of_repeated_crashes_lose_nothing() {
    let states = long_scenarios(70);
    assert!(states >= 10_000, "only {states} states");
}

/// Explores crashes of a long archive. Returns the number of states.
fn third_copies(effort: Effort, seed: u64) -> u64 {
    let totals = check_kept(explore_third_copies(effort, seed));
    println!("{totals}");
    totals.states
}

/// The effort spent on third copies in each test run.
const THIRD_COPIES: Effort = Effort {
    every_cut_up_to: 8,
    sampled_cuts: 2,
    crashes: 2,
    recovery_one_in: 128,
    reopen_one_in: 16,
};

#[test]
fn after_every_crash_a_long_archive_opens_without_its_first_blocks() {
    let states = third_copies(THIRD_COPIES, 1);
    assert!(states >= 1000, "only {states} states");
}

#[test]
#[ignore = "seconds: `cargo xtask proof` runs it"]
fn after_many_crashes_a_long_archive_opens_without_its_first_blocks() {
    let effort = Effort { recovery_one_in: 16, reopen_one_in: 2, ..THIRD_COPIES };
    let states = third_copies(effort, 2);
    assert!(states >= 2600, "only {states} states");
}

#[test]
fn faults_in_the_third_copies_are_caught_by_crashes_of_a_long_archive() {
    let by_crashes = [
        PlantedFault::ThirdCopyTooEarly,
        PlantedFault::PreferThirdCopies,
        PlantedFault::AllocateThirdCopies,
    ];
    for fault in by_crashes {
        let caught = caught_in_third_copies(fault);
        println!("{fault:?}: {caught:?}");
        assert!(caught.is_some(), "{fault:?}");
    }
}

/// Explores crashes while threads write. Returns the number of states.
fn large_scenarios(fixture: &Fixture, seeds: u64, sampled_cuts: u64) -> u64 {
    let effort = Effort {
        every_cut_up_to: 16,
        sampled_cuts,
        crashes: 1,
        recovery_one_in: 1,
        reopen_one_in: 2,
    };
    let mut totals = Totals::default();
    for seed in 1..=seeds {
        totals += check_kept(explore_large_scenario(fixture, effort, seed));
    }
    println!("{totals}");
    totals.states
}

#[test]
#[ignore = "half a minute: `cargo xtask proof` runs it"]
fn many_crashes_while_threads_write_lose_nothing() {
    let states = large_scenarios(&Fixture::new(), 5, 60);
    assert!(states >= 500, "only {states} states");
}

#[test]
fn crashes_while_threads_write_lose_nothing() {
    let fixture = Fixture::new();
    let states = large_scenarios(&fixture, 2, 24);
    assert!(states >= 80, "only {states} states");
    let fault = PlantedFault::ForgetTheWrite;
    let caught = caught_in_large_scenarios(fault, &fixture).expect("the planted fault is caught");
    println!("{fault:?}: caught by {} after {} states", caught.check, caught.states);
}

/// Fails one in `one_in` of the writes and syncs of some operations. Returns the number of states after a failure.
fn failed_writes_and_syncs(scenarios: impl Iterator<Item = Vec<Operation>>, one_in: usize) -> u64 {
    let fixture = Fixture::new();
    let failures = |scenario: Vec<_>| check_kept(failures_poison(&fixture, &scenario, one_in));
    let kept = scenarios.map(|scenario| failures(scenario).states);
    let states = kept.sum();
    println!("{states} states after failures");
    states
}

#[test]
fn failed_writes_and_syncs_poison_the_handle_and_lose_no_commit() {
    let states = failed_writes_and_syncs(small_scenarios(1).into_iter().step_by(12), 3);
    assert!(states >= 400, "only {states} states");
}

#[test]
#[ignore = "a minute: `cargo xtask proof` runs it"]
fn failed_writes_and_syncs_of_every_operation_lose_no_commit() {
    let states = failed_writes_and_syncs(small_scenarios(1).into_iter(), 1);
    assert!(states >= 10_000, "only {states} states");
}

#[test]
fn full_disk_causes_a_rollback_and_the_handle_stays_usable() {
    let fixture = Fixture::new();
    let operations = [
        Operation::Append { stream: 0, length: 3_000_000 },
        Operation::Commit,
        Operation::Create { length: 2_000_000, name: Some(3) },
        Operation::Overwrite { stream: 0, offset: 4000, length: 1_000_000 },
        Operation::Delete { stream: 0 },
        Operation::Commit,
        Operation::Create { length: 4_000_000, name: None },
    ];
    let mut refused = 0;
    for room in [0, 30, 100, 300, 700, 1000, 1500, 2500] {
        refused += check_kept(full_disk_leaves_the_handle_usable(&fixture, &operations, room));
    }
    println!("{refused} operations failed on the full disk");
    assert!(refused >= 10, "only {refused} operations");
}

#[test]
fn writes_that_are_lost_or_misplaced_never_give_other_content() {
    let fixture = Fixture::new();
    let (mut harmless, mut detected) = (0, 0);
    for scenario in small_scenarios(1) {
        let (more_harmless, more_detected) =
            check_kept(byzantine_writes_are_detected(&fixture, &scenario));
        harmless += more_harmless;
        detected += more_detected;
    }
    println!("{harmless} lost or misplaced writes were harmless, {detected} were detected");
    assert!(harmless > 0 && detected > 100, "{harmless} harmless, {detected} detected");
}

#[test]
fn corruption_of_one_copy_is_repaired_and_elsewhere_is_an_error() {
    let fixture = Fixture::new();
    for scenario in small_scenarios(1) {
        let mut run = Scenario::begin(&fixture);
        check_kept(run.run(&scenario));
        let (medium, sealed, content) = run.closed();
        let cases = check_kept(corruption_is_detected(&medium, &sealed, &content));
        assert!(cases > 3 * u64::from(medium.length()));
    }
}

#[test]
fn blocks_that_cannot_be_read_are_errors() {
    let fixture = Fixture::new();
    let outcome = unreadable_blocks_are_errors(&fixture.medium, &fixture.content);
    // Those of the streams: everything else exists twice.
    let errors = check_kept(outcome);
    assert!(errors >= 4, "{errors} blocks");
}

#[test]
fn blocks_that_a_reader_may_read_are_not_reused() {
    let fixture = Fixture::new();
    check_kept(readers_keep_their_blocks(&fixture));
}

#[test]
fn readers_find_their_commit_at_every_event() {
    let totals = check_kept(explore_readers(1, 12));
    println!("{totals}");
    assert!(totals.states > 1000 && totals.kills > 0 && totals.power_cuts > 0, "{totals}");
    assert!(totals.single_copies > 20 && totals.without_first_blocks > 20, "{totals}");
}

#[test]
#[ignore = "minutes: `cargo xtask proof` runs it"]
fn readers_find_their_commit_in_a_million_states() {
    let totals = check_kept(explore_readers(1000, 700));
    println!("{totals}");
    assert!(totals.states >= 1_000_000, "only {} states", totals.states);
}

#[test]
fn every_planted_fault_in_the_rules_for_readers_is_caught() {
    let fixture = Fixture::new();
    let missed: Vec<PlantedFault> = PlantedFault::READERS
        .into_iter()
        .filter(|&fault| {
            let caught = caught_by_readers(fault, &fixture, 200);
            println!("{fault:?}: {caught:?}");
            caught.is_none()
        })
        .collect();
    assert_eq!(missed, []);
}

/// A reader that does not take the second copy of a page, and third copies that are written too early.
#[test]
fn faults_in_copies_are_caught_by_readers_of_a_long_archive() {
    let fixture = long_fixture();
    for fault in [PlantedFault::NoSecondCopy, PlantedFault::ThirdCopyTooEarly] {
        let caught = caught_by_readers(fault, &fixture, 60);
        println!("{fault:?}: {caught:?}");
        assert!(caught.is_some(), "{fault:?}");
    }
}

#[test]
#[ignore = "a minute: `cargo xtask proof` runs it"]
fn nothing_is_caught_without_a_planted_fault() {
    assert_eq!(false_alarm(&Fixture::new()), None);
}

#[test]
fn every_planted_fault_is_caught() {
    let fixture = Fixture::new();
    let mut missed = Vec::new();
    for fault in PlantedFault::PROTOCOL {
        match caught(fault, &fixture) {
            Some(caught) => {
                println!("{fault:?}: caught by {} after {} states", caught.check, caught.states);
            }
            None => missed.push(fault),
        }
    }
    let fault = PlantedFault::ReuseMovedBlocks;
    match caught_in_compaction(fault) {
        Some(caught) => {
            println!("{fault:?}: caught by {} after {} states", caught.check, caught.states);
        }
        None => missed.push(fault),
    }
    for fault in PlantedFault::REKEY {
        match caught_in_rekey(fault) {
            Some(caught) => {
                println!("{fault:?}: caught by {} after {} states", caught.check, caught.states);
            }
            None => missed.push(fault),
        }
    }
    assert_eq!(missed, []);
}
