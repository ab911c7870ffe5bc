//! Chooses the meta slot with the current commit from the four. It does no I/O, so every case is a row of a table in
//! the tests.

use crate::error::{Check, Error, Result};
use crate::format::{BLOCK_SIZE, META_SLOT_PAIRS, MetaSlot, Position};

/// A pair of meta slots: two copies of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Pair {
    /// Positions 1 and 3.
    Odd,
    /// Positions 2 and 4.
    Even,
}

impl Pair {
    /// Both pairs.
    pub(in crate::store) const BOTH: [Pair; 2] = [Pair::Odd, Pair::Even];

    /// Returns the pair's two positions, in the order in which they are written.
    pub(in crate::store) const fn positions(self) -> [Position; 2] {
        match self {
            Pair::Odd => META_SLOT_PAIRS[0],
            Pair::Even => META_SLOT_PAIRS[1],
        }
    }

    /// Returns the other pair.
    pub(in crate::store) const fn other(self) -> Pair {
        match self {
            Pair::Odd => Pair::Even,
            Pair::Even => Pair::Odd,
        }
    }
}

/// A copy of a meta slot that opened, with its sealed bytes.
#[derive(Debug, Clone)]
pub(in crate::store) struct GoodCopy {
    pub(in crate::store) slot: MetaSlot,
    pub(in crate::store) sealed: Box<[u8; BLOCK_SIZE]>,
}

/// The content of one of the four positions.
#[derive(Debug, Clone)]
pub(in crate::store) struct Copy {
    pub(in crate::store) position: Position,
    pub(in crate::store) outcome: Result<GoodCopy>,
}

/// The current commit, and the copies to repair.
#[derive(Debug, Clone)]
pub(in crate::store) struct Chosen {
    /// The current commit.
    pub(in crate::store) slot: MetaSlot,
    /// The pair that holds it.
    pub(in crate::store) pair: Pair,
    /// Its good copies, which recovery writes again, byte for byte.
    pub(in crate::store) good: Vec<(Position, Box<[u8; BLOCK_SIZE]>)>,
    /// Copies of its pair that are bad or older. Recovery seals them again.
    pub(in crate::store) repair: Vec<Position>,
    /// Copies of any pair that do not open.
    pub(in crate::store) bad: Vec<Position>,
    /// The pair without a good copy, if `accept_lost_pair` allowed it.
    pub(in crate::store) lost: Option<Pair>,
    /// A copy that does not open and may have held a newer commit: the other copy of its pair is older.
    pub(in crate::store) may_have_held_newer: Option<Position>,
}

/// Chooses the newest commit. A pair without a good copy is damage unless `accept_lost_pair`: no crash causes it, so
/// falling back to the other pair would silently return to an older commit.
pub(in crate::store) fn choose(copies: &[Copy; 4], accept_lost_pair: bool) -> Result<Chosen> {
    if !crate::fault!(AcceptForks) {
        check_forks(copies)?;
    }
    if !crate::fault!(IgnoreCommitNumbers) {
        check_order(copies)?;
    }
    let mut lost = None;
    let mut newest: Option<(Pair, &MetaSlot)> = None;
    for pair in Pair::BOTH {
        let best = members(copies, pair)
            .filter_map(|copy| copy.outcome.as_ref().ok())
            .max_by_key(|good| order(&good.slot));
        match best {
            None => lost = Some((pair, lost_pair_error(copies, pair))),
            Some(good) if newest.is_none_or(|(_, slot)| order(&good.slot) > order(slot)) => {
                newest = Some((pair, &good.slot));
            }
            Some(_) => {}
        }
    }
    let (pair, slot) = match (newest, &lost) {
        (Some(newest), None) => newest,
        (Some(newest), Some(_)) if accept_lost_pair || crate::fault!(FallBack) => newest,
        (_, Some((_, error))) => return Err(error.clone()),
        (None, None) => unreachable!("a pair is good or lost"),
    };
    if lost.is_none() && !crate::fault!(IgnoreCommitNumbers) {
        check_distances(copies, pair)?;
    }
    let (mut good, mut repair) = (Vec::new(), Vec::new());
    for copy in members(copies, pair) {
        match &copy.outcome {
            Ok(found) if found.slot == *slot => good.push((copy.position, found.sealed.clone())),
            _ => repair.push(copy.position),
        }
    }
    let bad = copies.iter().filter(|copy| copy.outcome.is_err()).map(|copy| copy.position);
    let bad_in_other = members(copies, pair.other()).find(|copy| copy.outcome.is_err());
    Ok(Chosen {
        slot: slot.clone(),
        pair,
        good,
        repair,
        bad: bad.collect(),
        lost: lost.map(|(pair, _)| pair),
        may_have_held_newer: bad_in_other.map(|copy| copy.position),
    })
}

/// Orders commits by session, then by step. The salt does not count.
fn order(slot: &MetaSlot) -> (u32, u32) {
    (slot.generation.session, slot.generation.step)
}

fn members(copies: &[Copy; 4], pair: Pair) -> impl Iterator<Item = &Copy> {
    copies.iter().filter(move |copy| pair.positions().contains(&copy.position))
}

/// Checks that commits with the same session and step are equal. If they are not, the archive was copied, both copies
/// were written to, and their slots were mixed.
fn check_forks(copies: &[Copy; 4]) -> Result<()> {
    let good = good_slots(copies.iter());
    for (at, (_, first)) in good.iter().enumerate() {
        for (position, second) in &good[at + 1..] {
            if order(first) == order(second) && first != second {
                let (expected, found) = (first.generation, second.generation);
                return Err(Error::tampered(*position, Check::Fork, expected, found));
            }
        }
    }
    Ok(())
}

/// Checks that commit numbers and generations give the same order.
fn check_order(copies: &[Copy; 4]) -> Result<()> {
    let mut good = good_slots(copies.iter());
    good.sort_by_key(|(_, slot)| order(slot));
    for pair in good.windows(2) {
        let [(_, older), (position, newer)] = pair else { continue };
        let is_same = order(older) == order(newer);
        if !is_same && newer.number <= older.number {
            return Err(wrong_number(*position, older.number.saturating_add(1), newer));
        }
    }
    Ok(())
}

/// Checks that the pairs hold commits n and n - 1, and that the copies of a pair hold the same commit or, as during a
/// commit, n and n - 2. No history of writers and crashes leaves anything else (docs/FORMAT.md, "Choosing a commit").
fn check_distances(copies: &[Copy; 4], newest: Pair) -> Result<()> {
    let pairs = [newest, newest.other()];
    for pair in pairs {
        let good = good_slots(members(copies, pair));
        let latest = good.iter().map(|(_, slot)| slot.number).max().unwrap_or_default();
        for (position, slot) in good {
            if !matches!(latest - slot.number, 0 | 2) {
                return Err(wrong_number(position, latest.saturating_sub(2), slot));
            }
        }
    }
    let latest =
        |pair| good_slots(members(copies, pair)).into_iter().max_by_key(|(_, slot)| slot.number);
    if let [Some((_, newest)), Some((position, other))] = pairs.map(latest)
        && newest.number.checked_sub(1) != Some(other.number)
    {
        return Err(wrong_number(position, newest.number.saturating_sub(1), other));
    }
    Ok(())
}

fn wrong_number(position: Position, expected: u64, found: &MetaSlot) -> Error {
    Error::tampered(position, Check::CommitNumber, expected, found.number)
}

fn good_slots<'a>(copies: impl Iterator<Item = &'a Copy>) -> Vec<(Position, &'a MetaSlot)> {
    copies
        .filter_map(|copy| copy.outcome.as_ref().ok().map(|good| (copy.position, &good.slot)))
        .collect()
}

/// Returns the error for a pair without a good copy: a newer format or an I/O error if a copy has one, else damage.
fn lost_pair_error(copies: &[Copy; 4], pair: Pair) -> Error {
    let newer = members(copies, pair)
        .filter_map(|copy| copy.outcome.as_ref().err())
        .find(|error| matches!(error, Error::NewerFormat { .. } | Error::Io { .. }));
    newer.cloned().unwrap_or_else(|| {
        Error::damaged(pair.positions()[0], Check::MetaSlot, "one good copy of two", "none")
    })
}
