//! Tables with a row for every state of the meta slots. The odd pair is 1 and 3, the even pair 2 and 4.

use crate::error::{Check, Error, Result};
use crate::format::{BLOCK_SIZE, Generation, META_SLOTS, MetaSlot, Position, THIRD_SLOTS};
use crate::store::superblock::choose::{Chosen, Copies, Copy, GoodCopy, Pair, choose};

/// The content at the position of a slot.
#[derive(Debug, Clone, Copy)]
enum At {
    /// The commit of this session and step. Its number is the step; session 2 begins after commit 900.
    Commit(u32, u32),
    /// The commit of this step of session 1, with this number.
    Numbered(u32, u64),
    /// A commit of the same session and step in a separately written copy of the archive.
    OtherSalt(u32, u32),
    /// A commit of the same generation with other content.
    OtherContents(u32, u32),
    /// Torn, corrupted or never sealed.
    Bad,
    /// A slot of a later format.
    Newer,
}
use At::{Bad, Commit, Newer, Numbered, OtherContents, OtherSalt};

fn copy(position: Position, at: At) -> Copy {
    let slot = |session: u32, step: u32, salt, metadata: &[u8]| {
        let mut slot = MetaSlot::first(Generation { session, step, salt }, 1, [0; 32]);
        slot.number = u64::from(step) + if session > 1 { 901 } else { 0 };
        slot.metadata = metadata.to_vec();
        let sealed = Box::new([0; BLOCK_SIZE]);
        Ok(GoodCopy { slot, sealed })
    };
    let outcome = match at {
        Commit(session, step) => slot(session, step, session * 100, b""),
        Numbered(step, number) => slot(1, step, 100, b"").map(|mut good: GoodCopy| {
            good.slot.number = number;
            good
        }),
        OtherSalt(session, step) => slot(session, step, 99, b""),
        OtherContents(session, step) => slot(session, step, session * 100, b"other"),
        Bad => Err(Error::damaged(position, Check::Tag, "a tag", "another")),
        Newer => {
            let (what, found) = ("version", 2_u32.into());
            Err(Error::NewerFormat { what, found, supported: 1_u32.into() })
        }
    };
    Copy { position, outcome }
}

fn chosen(slots: [At; 4], accept_lost_pair: bool) -> Result<Chosen> {
    let slots = std::array::from_fn(|index| copy(META_SLOTS[index], slots[index]));
    choose(&Copies { slots, third: Vec::new() }, accept_lost_pair)
}

fn numbers(positions: &[Position]) -> Vec<u32> {
    positions.iter().map(|position| position.get()).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn the_newest_commit_is_chosen_and_its_bad_copies_are_repaired() {
    // The case; slots 1 to 4; the chosen pair; copies of it to repair; copies that do not open.
    type Row = (&'static str, [At; 4], Pair, &'static [u32], &'static [u32]);
    let rows: &[Row] = &[
        (
            "a new archive: commits 1 and 0",
            [Commit(0, 1), Commit(0, 0), Commit(0, 1), Commit(0, 0)],
            Pair::Odd,
            &[],
            &[],
        ),
        (
            "a clean close, the odd pair newer",
            [Commit(1, 5), Commit(1, 4), Commit(1, 5), Commit(1, 4)],
            Pair::Odd,
            &[],
            &[],
        ),
        (
            "a clean close, the even pair newer",
            [Commit(1, 5), Commit(1, 6), Commit(1, 5), Commit(1, 6)],
            Pair::Even,
            &[],
            &[],
        ),
        (
            "sessions count before steps",
            [Commit(1, 900), Commit(2, 0), Commit(1, 900), Commit(2, 0)],
            Pair::Even,
            &[],
            &[],
        ),
        (
            "a crash before the first copy",
            [Commit(1, 3), Commit(1, 4), Commit(1, 3), Commit(1, 4)],
            Pair::Even,
            &[],
            &[],
        ),
        (
            "a crash during the first copy",
            [Bad, Commit(1, 4), Commit(1, 3), Commit(1, 4)],
            Pair::Even,
            &[],
            &[1],
        ),
        (
            "a crash between the first copy and the second",
            [Commit(1, 5), Commit(1, 4), Commit(1, 3), Commit(1, 4)],
            Pair::Odd,
            &[3],
            &[],
        ),
        (
            "a crash during the second copy",
            [Commit(1, 5), Commit(1, 4), Bad, Commit(1, 4)],
            Pair::Odd,
            &[3],
            &[3],
        ),
        (
            "the second copy, written first because it was bad",
            [Commit(1, 3), Commit(1, 4), Commit(1, 5), Commit(1, 4)],
            Pair::Odd,
            &[1],
            &[],
        ),
        (
            "a bad copy of the newest commit",
            [Commit(1, 5), Commit(1, 6), Commit(1, 5), Bad],
            Pair::Even,
            &[4],
            &[4],
        ),
        (
            "a bad copy in each pair",
            [Bad, Commit(1, 6), Commit(1, 5), Bad],
            Pair::Even,
            &[4],
            &[1, 4],
        ),
        (
            "a copy of a newer format next to one of this format",
            [Commit(1, 5), Commit(1, 4), Newer, Commit(1, 4)],
            Pair::Odd,
            &[3],
            &[3],
        ),
    ];
    for (what, slots, pair, repair, bad) in rows {
        for accept_lost_pair in [false, true] {
            let found = chosen(*slots, accept_lost_pair).unwrap();
            assert_eq!(found.pair, *pair, "{what}");
            assert_eq!(numbers(&found.repair), *repair, "{what}");
            assert_eq!(numbers(&found.bad), *bad, "{what}");
            assert_eq!(found.good.len() + found.repair.len(), 2, "{what}");
            assert_eq!(found.lost, None, "{what}");
        }
    }
}

#[test]
fn a_pair_without_a_good_copy_is_damage() {
    // Slots; the lost pair.
    let rows = [
        ([Bad, Commit(1, 4), Bad, Commit(1, 4)], Pair::Odd),
        ([Commit(1, 4), Bad, Commit(1, 4), Bad], Pair::Even),
        ([Commit(9, 9), Bad, Bad, Bad], Pair::Even),
    ];
    for (slots, lost) in rows {
        let Err(Error::Damaged(fault)) = chosen(slots, false) else {
            panic!("{slots:?} was accepted")
        };
        assert_eq!((fault.check, fault.position), (Check::MetaSlot, Some(lost.positions()[0])));
        let found = chosen(slots, true).unwrap();
        assert_eq!((found.pair, found.lost), (lost.other(), Some(lost)), "{slots:?}");
    }
    for accept_lost_pair in [false, true] {
        let error = chosen([Bad; 4], accept_lost_pair).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error}");
        let error = chosen([Newer; 4], accept_lost_pair).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
    }
    let newer = chosen([Newer, Commit(1, 4), Newer, Commit(1, 4)], false).unwrap_err();
    assert!(matches!(newer, Error::NewerFormat { .. }), "{newer}");
}

#[test]
fn two_commits_with_the_same_session_and_step_are_a_fork() {
    let rows = [
        [Commit(1, 5), OtherSalt(1, 5), Commit(1, 5), OtherSalt(1, 5)],
        [Commit(1, 5), Commit(1, 4), OtherSalt(1, 5), Commit(1, 4)],
        [Commit(1, 5), Commit(1, 4), OtherContents(1, 5), Commit(1, 4)],
        // A fork before the newest commit counts too.
        [Commit(1, 5), Commit(1, 4), Commit(1, 5), OtherSalt(1, 4)],
        [Commit(1, 5), OtherSalt(1, 5), Bad, Bad],
    ];
    for slots in rows {
        for accept_lost_pair in [false, true] {
            let Err(Error::Tampered(fault)) = chosen(slots, accept_lost_pair) else {
                panic!("{slots:?} was accepted")
            };
            assert_eq!(fault.check, Check::Fork);
        }
    }
    // Every archive has sessions with different numbers and different salts.
    assert!(chosen([Commit(1, 900), Commit(2, 0), Commit(1, 900), Commit(2, 0)], false).is_ok());
}

#[test]
fn commit_numbers_that_no_history_leaves_are_tampering() {
    // Slots; the position that is reported; the number expected there.
    let rows = [
        // Pairs that do not differ by one.
        ([Commit(1, 5), Commit(1, 3), Commit(1, 5), Commit(1, 3)], 4, 4),
        ([Commit(1, 5), Commit(1, 8), Commit(1, 5), Commit(1, 8)], 3, 7),
        ([Commit(1, 5), Commit(2, 0), Commit(1, 5), Commit(2, 0)], 3, 900),
        // All four hold one commit.
        ([Commit(1, 5); 4], 4, 4),
        // Copies of a pair that are neither one commit nor two commits apart.
        ([Commit(1, 5), Commit(1, 4), Commit(1, 4), Commit(1, 4)], 3, 3),
        ([Commit(1, 5), Commit(1, 4), Commit(1, 2), Commit(1, 4)], 3, 3),
        ([Commit(1, 5), Commit(1, 4), Commit(1, 5), Commit(1, 1)], 4, 2),
        // Numbers that contradict the generations.
        ([Numbered(5, 5), Numbered(4, 6), Numbered(5, 5), Numbered(4, 6)], 1, 7),
        ([Numbered(5, 5), Numbered(4, 5), Numbered(5, 5), Numbered(4, 5)], 1, 6),
        ([Numbered(5, u64::MAX), Numbered(4, u64::MAX), Bad, Bad], 1, u64::MAX),
    ];
    for (slots, position, expected) in rows {
        for accept_lost_pair in [false, true] {
            let Err(Error::Tampered(fault)) = chosen(slots, accept_lost_pair) else {
                panic!("{slots:?} was accepted")
            };
            assert_eq!(fault.check, Check::CommitNumber, "{slots:?}");
            assert_eq!(fault.position.map(Position::get), Some(position), "{slots:?}");
            assert_eq!(fault.expected, expected.into(), "{slots:?}");
        }
    }
}

#[test]
fn a_bad_copy_whose_twin_is_older_may_have_held_a_newer_commit() {
    let newest = [Commit(1, 5), Commit(1, 4), Commit(1, 5), Commit(1, 4)];
    assert_eq!(chosen(newest, false).unwrap().may_have_held_newer, None);
    for (index, may_be_newer) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut slots = newest;
        slots[index] = Bad;
        let found = chosen(slots, false).unwrap().may_have_held_newer;
        assert_eq!(found, may_be_newer.then_some(META_SLOTS[index]), "{slots:?}");
    }
}

#[test]
fn an_older_copy_in_the_pair_of_the_older_commit_may_have_held_a_newer_one() {
    let row = [Commit(1, 5), Commit(1, 4), Commit(1, 5), Commit(1, 2)];
    assert_eq!(chosen(row, false).unwrap().may_have_held_newer, Some(META_SLOTS[3]));
    let row = [Commit(1, 5), Commit(1, 2), Commit(1, 5), Commit(1, 4)];
    assert_eq!(chosen(row, false).unwrap().may_have_held_newer, Some(META_SLOTS[1]));
}

#[test]
fn the_only_good_copy_of_the_newest_commit_is_named() {
    // Slots 1 to 4, third copies, the only good copy.
    type Row = ([At; 4], [At; 2], Option<u32>);
    let c = |step| Commit(1, step);
    let rows: &[Row] = &[
        ([c(5), c(4), c(5), c(4)], [Bad; 2], None),
        ([c(5), c(4), c(3), c(4)], [Bad; 2], Some(1)),
        ([c(3), c(4), c(5), c(4)], [Bad; 2], Some(3)),
        ([c(5), c(4), Bad, c(4)], [Bad; 2], Some(1)),
        ([c(5), c(4), c(5), Bad], [Bad; 2], None),
        ([c(5), c(4), c(5), c(2)], [Bad; 2], None),
        ([Bad, c(4), Bad, c(4)], [c(4), c(5)], Some(258)),
        ([Bad, c(4), Bad, c(4)], [c(4), c(3)], None),
        ([Bad, c(4), Bad, Bad], [c(4), c(3)], None),
        ([Bad, c(4), Bad, Bad], [c(2), c(3)], Some(2)),
        ([Bad; 4], [c(4), c(5)], Some(258)),
    ];
    for &(slots, third, expected) in rows {
        let slots = std::array::from_fn(|index| copy(META_SLOTS[index], slots[index]));
        let third = std::array::from_fn::<_, 2, _>(|at| copy(THIRD_SLOTS[at], third[at])).to_vec();
        let copies = Copies { slots, third };
        let is_lost = copies.lost_pairs().next().is_some();
        // Third copies are read only if a pair is lost.
        let copies = if is_lost { copies } else { Copies { third: Vec::new(), ..copies } };
        let only_copy = choose(&copies, false).unwrap().only_copy;
        assert_eq!(only_copy.map(Position::get), expected, "{copies:?}");
    }
}

#[test]
fn without_a_good_copy_of_a_pair_the_newest_of_the_others_counts() {
    // The case; slots 1 to 4; the third copies; the number and pair of the chosen commit; copies of it to repair; the
    // slot that may have held a newer commit. No number is an error.
    type Row = (&'static str, [At; 4], [At; 2], Option<(u64, Pair, &'static [u32], Option<u32>)>);
    let c = |number| Commit(1, number);
    let rows: &[Row] = &[
        (
            "both pairs are good",
            [c(7), c(6), c(7), c(6)],
            [c(6), c(9)],
            Some((7, Pair::Odd, &[], None)),
        ),
        ("newest pair", [Bad, c(6), Bad, c(6)], [c(6), c(7)], Some((7, Pair::Odd, &[1, 3], None))),
        ("older pair", [c(7), Bad, c(7), Bad], [c(6), c(7)], Some((7, Pair::Odd, &[], Some(2)))),
        (
            "crash before the third",
            [Bad, c(6), Bad, c(6)],
            [c(6), c(5)],
            Some((6, Pair::Even, &[], Some(1))),
        ),
        (
            "crash in the next",
            [Bad, Bad, Bad, c(6)],
            [c(6), c(7)],
            Some((7, Pair::Odd, &[1, 3], Some(2))),
        ),
        (
            "newest pair, rot in the other",
            [Bad, Bad, Bad, c(6)],
            [c(8), c(7)],
            Some((8, Pair::Even, &[2, 4], Some(1))),
        ),
        ("both pairs", [Bad; 4], [c(6), c(7)], Some((7, Pair::Odd, &[1, 3], Some(2)))),
        ("both pairs, one third", [Bad; 4], [c(6), Bad], Some((6, Pair::Even, &[2, 4], Some(1)))),
        (
            "an old third of any age",
            [Bad, c(6), Bad, c(6)],
            [c(2), Bad],
            Some((6, Pair::Even, &[], Some(1))),
        ),
        ("no third", [Bad, c(6), Bad, c(6)], [Bad, Bad], None),
        ("nothing", [Bad; 4], [Bad, Bad], None),
        ("the other pair was put back", [Bad, c(6), Bad, c(6)], [c(8), c(7)], None),
        ("third too new", [Bad, c(6), Bad, Bad], [Bad, c(9)], None),
        ("a fork", [Bad, c(6), Bad, c(6)], [OtherSalt(1, 6), Bad], None),
        ("a newer format", [Newer, c(6), Bad, c(6)], [c(6), c(7)], None),
        ("numbers against generations", [Bad, c(6), Bad, c(6)], [Bad, Numbered(7, 5)], None),
        ("in the wrong pair", [c(6), Bad, c(6), Bad], [Bad, c(7)], None),
    ];
    for (case, slots, third, expected) in rows {
        let slots = std::array::from_fn(|index| copy(META_SLOTS[index], slots[index]));
        let third = std::array::from_fn::<_, 2, _>(|at| copy(THIRD_SLOTS[at], third[at])).to_vec();
        let copies = Copies { slots, third };
        let is_lost = copies.lost_pairs().next().is_some();
        // Third copies are read only if a pair is lost.
        let copies = if is_lost { copies } else { Copies { third: Vec::new(), ..copies } };
        let found = choose(&copies, false);
        let found = found.as_ref().ok().map(|chosen| {
            let may_be_newer = chosen.may_have_held_newer.map(Position::get);
            (chosen.slot.number, chosen.pair, numbers(&chosen.repair), may_be_newer)
        });
        let expected =
            expected.map(|(number, pair, repair, newer)| (number, pair, repair.to_vec(), newer));
        assert_eq!(found, expected, "{case}");
    }
}
