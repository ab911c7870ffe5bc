//! Promise 4: rot costs what rotted. Whatever is destroyed, everything else is read, listed and extracted; losses are
//! listed; repair restores what has a copy; and salvage returns what is left without mixing versions.

use std::collections::BTreeSet;

use ar7_engine::{PlantedFault, with_planted_fault};
use ar7_fuzz::Random;
use ar7_fuzz::crash::single_threaded;
use ar7_fuzz::rot::{Damage, How, Oracle, Rot, Specimen, SpecimenKind, damages, rot_matrix};
use ar7_registry::records::TreeId;

/// Checks `most` damages of an archive of a kind, and an extraction after every third of them.
fn sampled(kind: SpecimenKind, most: usize, pairs: u32) -> u64 {
    let specimen = Specimen::new(kind);
    let oracle = Oracle::new(&specimen);
    let mut all = damages(&specimen, &oracle, pairs, 5);
    let mut random = Random::new(6);
    while all.len() > most {
        let at = random.below(all.len() as u64);
        all.swap_remove(usize::try_from(at).expect("a short list"));
    }
    let (tally, failures) = rot_matrix(&specimen, &oracle, &all, 3);
    println!("{kind:?}: {tally}");
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    tally.lossy
}

#[test]
fn a_sample_of_rot_costs_what_rotted() {
    use SpecimenKind::{Crashed, Fixed, Fragmented, Packed, Single, Tree};
    let kinds = [Single, Fixed, Tree, Fragmented, Crashed, Packed];
    let lossy = kinds.map(|kind| sampled(kind, 8, 10));
    assert!(lossy.iter().sum::<u64>() > 10, "{lossy:?}");
}

#[test]
#[ignore = "a minute: `cargo xtask proof` runs it"]
fn rot_of_every_kind_of_archive_costs_what_rotted() {
    for kind in SpecimenKind::ALL {
        let most = match kind {
            SpecimenKind::Rekeying | SpecimenKind::Large => 60,
            _ => 180,
        };
        assert!(sampled(kind, most, 60) > 0, "{kind:?}");
    }
}

/// Checks that chosen damages of an archive, each with an extraction, cost what they destroy.
fn check_chosen(kind: SpecimenKind, choose: impl Fn(&Specimen, &Oracle) -> Vec<Damage>) {
    let specimen = Specimen::new(kind);
    let oracle = Oracle::new(&specimen);
    let chosen = choose(&specimen, &oracle);
    assert!(!chosen.is_empty());
    let (_, failures) = rot_matrix(&specimen, &oracle, &chosen, 1);
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn bad_third_copies_are_noticed_and_repaired() {
    check_chosen(SpecimenKind::Large, |_, _| {
        let one = |block| Damage { blocks: [block].into(), how: How::Noise };
        [256, 257, 258].map(one).into()
    });
}

#[test]
fn lost_extended_attributes_cost_no_content() {
    check_chosen(SpecimenKind::Tree, |_, oracle| {
        let one = |block| Damage { blocks: [block].into(), how: How::Zeros };
        oracle.attribute_blocks().into_iter().map(one).collect()
    });
}

#[test]
fn a_bad_block_of_a_pack_costs_the_frames_that_touch_it() {
    check_chosen(SpecimenKind::Packed, |_, oracle| {
        let one = |block| Damage { blocks: [block].into(), how: How::Noise };
        oracle.pack_blocks().into_iter().step_by(7).map(one).collect()
    });
}

#[test]
fn a_lost_record_of_a_directory_hides_none_of_its_entries() {
    check_chosen(SpecimenKind::Tree, |_, oracle| {
        let both = |blocks| Damage { blocks, how: How::Zeros };
        oracle.both_copies_of(TreeId::Inodes).into_iter().map(both).collect()
    });
}

/// Returns what the checks find wrong with the first damage for which they find anything.
fn caught(specimen: &Specimen, damages: &[Damage]) -> Option<String> {
    let oracle = Oracle::new(specimen);
    let rot = Rot::new(specimen, &oracle);
    damages.iter().find_map(|damage| rot.check(damage, false).err())
}

/// Checks that a fault is caught by one of the damages that `choose` returns, and that they cost nothing without it.
/// `is_in_writer` says whether the archive is written with the fault.
fn check_fault(
    fault: PlantedFault,
    kind: SpecimenKind,
    is_in_writer: bool,
    choose: impl Fn(&Specimen, &Oracle) -> Vec<Damage> + Send + Sync,
) {
    let (wrong, false_alarm) = single_threaded(|| {
        let specimen = if is_in_writer {
            with_planted_fault(fault, || Specimen::new(kind))
        } else {
            Specimen::new(kind)
        };
        let chosen = choose(&specimen, &Oracle::new(&specimen));
        assert!(!chosen.is_empty(), "{fault:?}: nothing to destroy");
        if is_in_writer {
            let honest = Specimen::new(kind);
            let all = choose(&honest, &Oracle::new(&honest));
            return (caught(&specimen, &chosen), caught(&honest, &all));
        }
        let wrong = with_planted_fault(fault, || caught(&specimen, &chosen));
        (wrong, caught(&specimen, &chosen))
    });
    println!("{fault:?}: {wrong:?}");
    assert_eq!(false_alarm, None, "{fault:?}");
    assert!(wrong.is_some(), "{fault:?} is not caught");
}

#[test]
fn a_reader_that_does_not_take_the_second_copy_is_caught() {
    check_fault(PlantedFault::NoSecondCopy, SpecimenKind::Fragmented, false, |_, oracle| {
        let first = |copies: BTreeSet<u32>| copies.first().copied();
        let firsts = oracle.both_copies().into_iter().filter_map(first);
        firsts.take(12).map(|block| Damage { blocks: [block].into(), how: How::Zeros }).collect()
    });
}

#[test]
fn copies_that_lie_together_are_caught() {
    check_fault(PlantedFault::CopiesTogether, SpecimenKind::Large, true, |specimen, oracle| {
        let all = damages(specimen, oracle, 0, 1);
        all.into_iter().filter(|damage| damage.blocks.len() > 2).skip(1).collect()
    });
}

#[test]
fn a_repair_that_trusts_an_old_copy_is_caught() {
    check_fault(
        PlantedFault::RepairFromOldCopies,
        SpecimenKind::Fragmented,
        false,
        |specimen, oracle| {
            let all = damages(specimen, oracle, 0, 1);
            let copies: BTreeSet<u32> = oracle.both_copies().into_iter().flatten().collect();
            let is_old = |damage: &Damage| {
                damage.how == How::Older && damage.blocks.iter().all(|block| copies.contains(block))
            };
            all.into_iter().filter(is_old).collect()
        },
    );
}

/// Without the records of extents, and with the old version of a block in its home location.
#[test]
fn a_salvage_that_mixes_versions_is_caught() {
    check_fault(PlantedFault::MixVersions, SpecimenKind::Crashed, false, |_, oracle| {
        let extents: BTreeSet<u32> =
            oracle.both_copies_of(TreeId::Extents).into_iter().flatten().collect();
        let with = |shadow| extents.iter().copied().chain([shadow]).collect();
        let shadows = oracle.shadow_blocks().into_iter();
        shadows.map(|shadow| Damage { blocks: with(shadow), how: How::Zeros }).collect()
    });
}
