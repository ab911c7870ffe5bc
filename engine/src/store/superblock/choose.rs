//! Chooses the meta slot with the current commit from the four, and from the third copies if a pair is lost. It does no
//! I/O, so every case is a row of a table in the tests.

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

    /// Returns the pair that holds a commit: commits alternate between the pairs, beginning with number 0.
    const fn of_commit(number: u64) -> Pair {
        if number % 2 == 1 { Pair::Odd } else { Pair::Even }
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

/// The content of one of the positions.
#[derive(Debug, Clone)]
pub(in crate::store) struct Copy {
    pub(in crate::store) position: Position,
    pub(in crate::store) outcome: Result<GoodCopy>,
}

/// The meta slots.
#[derive(Debug, Clone)]
pub(in crate::store) struct Copies {
    /// Those in the two pairs.
    pub(in crate::store) slots: [Copy; 4],
    /// The third copies. Empty if both pairs have a good copy, or if the archive is too short to have any.
    pub(in crate::store) third: Vec<Copy>,
}

impl Copies {
    /// Returns the pairs without a good copy.
    pub(in crate::store) fn lost_pairs(&self) -> impl Iterator<Item = Pair> {
        let is_lost = |pair: &Pair| members(&self.slots, *pair).all(|copy| copy.outcome.is_err());
        Pair::BOTH.into_iter().filter(is_lost)
    }
}

/// A copy as it is in the file.
pub(in crate::store) type Sealed = (Position, Box<[u8; BLOCK_SIZE]>);

/// The current commit, and the copies to repair.
#[derive(Debug, Clone)]
pub(in crate::store) struct Chosen {
    /// The current commit.
    pub(in crate::store) slot: MetaSlot,
    /// The pair that holds it.
    pub(in crate::store) pair: Pair,
    /// Its good copies, which recovery writes again, byte for byte.
    pub(in crate::store) good: Vec<Sealed>,
    /// Copies of its pair that are bad or older. Recovery seals them again.
    pub(in crate::store) repair: Vec<Position>,
    /// Copies of any pair that do not open.
    pub(in crate::store) bad: Vec<Position>,
    /// A pair without a good copy that may have held a newer commit, if `accept_lost_pair` or a third copy allowed it.
    pub(in crate::store) lost: Option<Pair>,
    /// A failure to read a copy of that pair: it may be readable later.
    pub(in crate::store) unreadable: Option<Error>,
    /// A copy in the pair of the older commit that may have held a newer one: it does not open, or is older than the
    /// other copy there.
    pub(in crate::store) may_have_held_newer: Option<Position>,
    /// The one copy of the current commit that is known to be good, if there is no other.
    pub(in crate::store) only_copy: Option<Position>,
}

/// Chooses the newest commit. A pair without a good copy is damage unless `accept_lost_pair`: no crash causes it, so
/// falling back to the other pair would silently return to an older commit. If there is a good third copy, the newest
/// commit of all that is left counts, and callers warn if a newer one may be lost.
pub(in crate::store) fn choose(copies: &Copies, accept_lost_pair: bool) -> Result<Chosen> {
    if let Some(third) = newest(&copies.third) {
        return choose_with_third(copies, third);
    }
    let copies = &copies.slots;
    if !crate::fault!(AcceptForks) {
        check_forks(copies.iter())?;
    }
    if !crate::fault!(IgnoreCommitNumbers) {
        check_order(copies.iter())?;
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
    Ok(Chosen {
        slot: slot.clone(),
        pair,
        only_copy: only(&good),
        good,
        repair,
        bad: bad.collect(),
        lost: lost.map(|(pair, _)| pair),
        unreadable: None,
        may_have_held_newer: may_have_held_newer(copies, pair.other()),
    })
}

/// Chooses the newest commit if a pair has no good copy, but a third copy is good. A third copy that is older than the
/// other pair proves nothing, but is not tampering either: a crash or a lost write leaves one.
fn choose_with_third(copies: &Copies, third: &Copy) -> Result<Chosen> {
    let Copies { slots, third: all } = copies;
    for pair in copies.lost_pairs() {
        let error = lost_pair_error(slots, pair);
        if matches!(error, Error::NewerFormat { .. }) {
            return Err(error);
        }
    }
    let known = slots.iter().chain(all);
    check_forks(known.clone())?;
    check_order(known.clone())?;
    let paired = newest(slots);
    if let Some(paired) = paired {
        check_third(slots, paired, third)?;
    }
    let is_newer = |paired: &Copy| order_of(third) > order_of(paired);
    let is_third = paired.is_none_or(is_newer) || crate::fault!(PreferThirdCopies);
    let current = paired.filter(|_| !is_third).unwrap_or(third);
    let slot = &current.outcome.as_ref().map_err(Clone::clone)?.slot;
    let pair = Pair::of_commit(slot.number);
    let is_current = |copy: &&Copy| copy.outcome.as_ref().is_ok_and(|found| found.slot == *slot);
    let (good, repair): (Vec<&Copy>, Vec<&Copy>) = members(slots, pair).partition(is_current);
    let is_other_good = !good.is_empty() && is_current(&third);
    let good = if good.is_empty() { vec![third] } else { good };
    let sealed =
        |copy: &Copy| copy.outcome.as_ref().ok().map(|found| (copy.position, found.sealed.clone()));
    let good: Vec<Sealed> = good.into_iter().filter_map(sealed).collect();
    let lost = copies.lost_pairs().find(|&lost| lost == pair.other());
    Ok(Chosen {
        slot: slot.clone(),
        pair,
        only_copy: only(&good).filter(|_| !is_other_good),
        good,
        repair: repair.into_iter().map(|copy| copy.position).collect(),
        bad: slots.iter().filter(|copy| copy.outcome.is_err()).map(|copy| copy.position).collect(),
        lost,
        unreadable: lost.map(|pair| lost_pair_error(slots, pair)).filter(Error::is_io),
        may_have_held_newer: may_have_held_newer(slots, pair.other()),
    })
}

fn only(good: &[Sealed]) -> Option<Position> {
    if let [(position, _)] = good { Some(*position) } else { None }
}

/// Returns a copy that may have held a commit newer than the current one, which is not in this pair. A crash during a
/// commit leaves a copy that does not open. No crash leaves one that is older than the other: both were durable before
/// the current commit was.
fn may_have_held_newer(copies: &[Copy; 4], pair: Pair) -> Option<Position> {
    let newest = newest(members(copies, pair)).and_then(order_of);
    let mut others = members(copies, pair)
        .filter(|copy| order_of(copy).is_none_or(|order| Some(order) != newest));
    others.next().map(|copy| copy.position)
}

/// Checks the commit numbers if one pair has no good copy. A third copy is written after the first copy of a pair is
/// durable, so it is at most one commit newer than the good pair, or two if that pair has a bad copy.
fn check_third(slots: &[Copy; 4], paired: &Copy, third: &Copy) -> Result<()> {
    let (Ok(paired_slot), Ok(third_slot)) = (&paired.outcome, &third.outcome) else {
        return Ok(());
    };
    let (paired_slot, third_slot) = (&paired_slot.slot, &third_slot.slot);
    let pair = Pair::of_commit(paired_slot.number);
    if !pair.positions().contains(&paired.position) {
        return Err(wrong_number(paired.position, third_slot.number, paired_slot));
    }
    for (position, slot) in good_slots(members(slots, pair)) {
        if !matches!(paired_slot.number.checked_sub(slot.number), Some(0 | 2)) {
            return Err(wrong_number(position, paired_slot.number.saturating_sub(2), slot));
        }
    }
    let has_bad = members(slots, pair).any(|copy| copy.outcome.is_err());
    let most = paired_slot.number.saturating_add(if has_bad { 2 } else { 1 });
    if third_slot.number > most {
        return Err(wrong_number(third.position, most, third_slot));
    }
    Ok(())
}

/// Returns the copy of the newest commit among those that open.
fn newest<'a>(copies: impl IntoIterator<Item = &'a Copy>) -> Option<&'a Copy> {
    copies.into_iter().filter(|copy| copy.outcome.is_ok()).max_by_key(|copy| order_of(copy))
}

fn order_of(copy: &Copy) -> Option<(u32, u32)> {
    copy.outcome.as_ref().ok().map(|found| order(&found.slot))
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
fn check_forks<'a>(copies: impl Iterator<Item = &'a Copy>) -> Result<()> {
    let good = good_slots(copies);
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
fn check_order<'a>(copies: impl Iterator<Item = &'a Copy>) -> Result<()> {
    let mut good = good_slots(copies);
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
