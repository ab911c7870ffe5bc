//! Promise 2: without the key, no change of the file makes a read return anything but what was committed.

use ar7_fuzz::Random;
use ar7_fuzz::tamper::{Case, MatrixTotals, Victim, VictimKind, cases, random_hostile, run_matrix};

/// Fails the test with what was found.
fn check_kept<T>(outcome: Result<T, impl std::fmt::Display>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

/// A sample of the flipped bits and of the changed headers, and every other case.
fn sample(victim: &Victim, seed: u64) -> Vec<Case> {
    const MOST: usize = 3000;
    let (mut many, mut chosen): (Vec<Case>, Vec<Case>) = cases(victim)
        .into_iter()
        .partition(|case| matches!(case, Case::Flip { .. } | Case::Header { .. }));
    let mut random = Random::new(seed);
    for _ in 0..MOST {
        let at = usize::try_from(random.below(many.len() as u64)).unwrap();
        chosen.push(many.swap_remove(at));
    }
    chosen
}

#[test]
fn tampering_is_noticed_everywhere() {
    let mut totals = MatrixTotals::default();
    for (seed, kind) in (1..).zip(VictimKind::ALL) {
        let victim = Victim::new(kind);
        totals.add(&check_kept(run_matrix(&victim, &sample(&victim, seed))));
    }
    println!("{totals}");
    let sum = totals.sum();
    assert!(sum.cases >= 20_000, "only {} cases", sum.cases);
}

#[test]
fn hostile_archives_end_with_typed_errors() {
    for (seed, kind) in (1..).zip(VictimKind::ALL) {
        let victim = Victim::new(kind);
        let totals = random_hostile(&victim.now().image, seed * 1_000_000, 1000);
        println!("{kind:?}: {totals}");
        assert!(totals.refused > 50 && totals.noticed > 50 && totals.unnoticed > 0, "{totals}");
    }
}
