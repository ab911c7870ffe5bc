//! Promise 2: without the key, no change of the file makes a read return anything other than the committed content.

use ar7_engine::PlantedFault;
use ar7_fuzz::tamper::{
    CaughtFault, MatrixTotals, Victim, VictimKind, caught_by_tampering, false_alarm, named_hostile,
    random_hostile, run_matrix, sample, third_copies_put_back,
};

use super::check_kept;

/// Tries one in `one_in` of these changes of each kind of archive: `most` of the flipped bits and changed headers, and
/// every other change.
fn sampled(most: usize, one_in: usize) -> u64 {
    let mut totals = MatrixTotals::default();
    for (seed, kind) in (1..).zip(VictimKind::ALL) {
        let victim = Victim::new(kind);
        // The cases are in random order.
        let mut cases = sample(&victim, seed, most);
        cases.truncate(cases.len() / one_in);
        totals.add(&check_kept(run_matrix(&victim, &cases)));
    }
    println!("{totals}");
    assert_eq!(totals.0.len(), 15, "every group of changes");
    totals.sum().cases
}

#[test]
fn a_sample_of_tampering_is_detected() {
    let cases = sampled(600, 9);
    assert!(cases >= 5000, "only {cases} cases");
}

#[test]
#[ignore = "minutes: `cargo xtask proof` runs it"]
fn tampering_is_detected_everywhere() {
    let cases = sampled(3000, 1);
    assert!(cases >= 20_000, "only {cases} cases");
}

#[test]
fn third_copies_of_any_age_are_used_only_without_the_others_and_with_a_warning() {
    let [newest, older, errors] = check_kept(third_copies_put_back(600, 1));
    println!("{newest} as committed, {older} older with a warning, {errors} errors");
    assert!(newest > 100 && older > 50 && errors > 50);
}

/// Tries random hostile archives made from one of each kind.
fn check_hostile(archives: u64) {
    for (seed, kind) in (1..).zip(VictimKind::ALL) {
        let victim = Victim::new(kind);
        let totals = random_hostile(&victim.now().image, seed * 1_000_000, archives);
        println!("{kind:?}: {totals}");
        let least = archives / 20;
        let is_varied = totals.refused > least && totals.reported > least && totals.accepted > 0;
        assert!(is_varied, "{totals}");
    }
}

#[test]
fn hostile_archives_end_with_typed_errors() {
    check_hostile(300);
}

#[test]
#[ignore = "seconds: `cargo xtask proof` runs it"]
fn many_hostile_archives_end_with_typed_errors() {
    check_hostile(1000);
}

#[test]
fn named_hostile_archives_cause_the_expected_errors() {
    let victim = Victim::new(VictimKind::Dynamic);
    let names = check_kept(named_hostile(&victim.now().image));
    println!("{} hostile archives: {}", names.len(), names.join("; "));
    assert!(names.len() >= 40, "only {}", names.len());
}

#[test]
fn every_authentication_fault_is_caught() {
    let mut missed = Vec::new();
    for fault in PlantedFault::AUTHENTICATION {
        match caught_by_tampering(fault) {
            Some(caught) => {
                let CaughtFault { check, cases, wrong } = caught;
                println!("{fault:?}: caught by {check} after {cases} cases: {wrong}");
            }
            None => missed.push(fault),
        }
    }
    assert_eq!(missed, []);
}

#[test]
#[ignore = "half a minute: `cargo xtask proof` runs it"]
fn nothing_is_caught_without_a_planted_fault() {
    assert_eq!(false_alarm(), None);
}
