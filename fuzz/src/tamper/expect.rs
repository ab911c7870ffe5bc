//! The expected result of a case. It follows from which blocks differ from the committed ones and from their purpose,
//! without asking the store.

use ar7_engine::Check;
use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{Generation, MAGIC, RESERVED_BLOCKS, header_layout, key_slot_layout};

use super::case::{Case, changed};
use super::outcome::Fault;
use super::victim::{Part, Sealed, State, Victim, block};

/// The expected result of a case.
pub(super) enum Expect<'a> {
    /// The committed content is read, and verification reports these reserved blocks and copies of pages and redo
    /// blocks, and nothing else.
    AsCommitted(Vec<u32>),
    /// Reading fails with one of these errors, and verification reports one of them.
    Error(Vec<Fault>),
    /// The committed content is read, and verification reports one of these errors, of trees that reading does not need.
    Unread(Vec<Fault>),
    /// One copy of the header was changed and its checksum corrected. Either it does not parse and the other copy is
    /// used, or it is reported as tampering.
    OneHeader(u32),
    /// Both copies of the header were changed: the error must match the field.
    Headers(usize),
    /// The meta slots of this state determine the commit. Either the complete older content is read and the receipt of
    /// the newest state fails, or there is an error.
    OtherState(&'a State),
    /// Any error.
    AnyError,
}

/// Returns the expected result of a case.
pub(super) fn expect<'a>(victim: &'a Victim, case: &Case, image: &[u8]) -> Expect<'a> {
    match case {
        Case::Cut(bytes) => return cut(victim, *bytes),
        Case::Extend { .. } => return Expect::AsCommitted(Vec::new()),
        Case::Header { copies: [copy], .. } => return Expect::OneHeader(*copy),
        Case::Header { byte, .. } => return Expect::Headers(*byte),
        _ => {}
    }
    let changed = changed(victim, image);
    let (mut faults, mut unread) = (Vec::new(), Vec::new());
    let mut bad = Vec::new();
    match headers(victim, image, &mut bad) {
        Headers::Good => {}
        Headers::Fault(fault) => faults.push(fault),
        Headers::OfStranger => return Expect::AnyError,
    }
    match slots(victim, image, &mut bad) {
        Slots::Now => {}
        Slots::Other(state) => return Expect::OtherState(state),
        Slots::Unknown => return Expect::AnyError,
        Slots::Fault(fault) => faults.extend(fault),
    }
    let is_redo_lost = victim.is_redo_lost(image);
    if is_redo_lost {
        // Nothing refers to the shadow blocks any more.
        bad.extend((0..victim.blocks()).filter(|&position| victim.is_shadow(position)));
    }
    for (position, part) in changed {
        match part {
            // Of the redo list, either copy is enough. Without both, the home locations are read. Verification names each
            // bad copy.
            Part::Blank | Part::Live { kind: KeyKind::Meta, .. } => bad.push(position),
            // So it is for a page. Verification names each bad copy.
            Part::Live { kind: KeyKind::Registry, .. } if victim.has_good_twin(image, position) => {
                bad.push(position);
            }
            _ if is_redo_lost && victim.is_shadow(position) => {}
            _ if is_redo_lost && victim.is_redirected(position) => {
                let sealed = Sealed { kind: KeyKind::Data, place: position };
                let is_older = victim.genuine(block(image, position)) == Some(sealed);
                let check = if is_older { Check::RedoList } else { Check::Tag };
                faults.push(Fault::Damaged(check, Some(position)));
            }
            Part::Live { kind, reported_at, is_read } => {
                let faults = if is_read { &mut faults } else { &mut unread };
                let genuine = Some(Sealed { kind, place: reported_at });
                faults.push(if victim.genuine(block(image, position)) == genuine {
                    Fault::Tampered(Check::Generation, Some(reported_at))
                } else {
                    Fault::Damaged(Check::Tag, Some(reported_at))
                });
            }
            Part::Header | Part::Slot | Part::Unused => {}
        }
    }
    if image.len() < victim.now().image.len() {
        faults.push(Fault::Truncated);
    }
    if faults.is_empty() && !unread.is_empty() {
        Expect::Unread(unread)
    } else if faults.is_empty() {
        bad.sort_unstable();
        Expect::AsCommitted(bad)
    } else {
        faults.extend(unread);
        Expect::Error(faults)
    }
}

fn cut(victim: &Victim, bytes: usize) -> Expect<'static> {
    let blocks = u32::try_from(bytes / 4096).expect("a small file");
    if bytes == 0 {
        Expect::Error(vec![Fault::NotAnArchive])
    } else if blocks < RESERVED_BLOCKS || blocks < victim.block_count {
        Expect::Error(vec![Fault::Truncated])
    } else {
        Expect::AsCommitted(Vec::new())
    }
}

enum Headers {
    Good,
    Fault(Fault),
    OfStranger,
}

fn headers(victim: &Victim, image: &[u8], bad: &mut Vec<u32>) -> Headers {
    let now = block(&victim.now().image, 0);
    let stranger = block(&victim.stranger.image, 0);
    let [first, second] = [0, 7].map(|position| block(image, position));
    let is_older = |header: &[u8]| {
        header != now && victim.states.iter().any(|state| block(&state.image, 0) == header)
    };
    if first == stranger && second == stranger {
        return Headers::OfStranger;
    }
    if first == stranger || second == stranger {
        return if first == now || second == now || is_older(first) || is_older(second) {
            Headers::Fault(Fault::Tampered(Check::HeaderMac, Some(7)))
        } else {
            Headers::OfStranger
        };
    }
    if first != now && second != now {
        return Headers::Fault(if is_older(first) || is_older(second) {
            Fault::Tampered(Check::HeaderRevision, Some(0))
        } else if !first.starts_with(&MAGIC) && !second.starts_with(&MAGIC) {
            Fault::NotAnArchive
        } else {
            Fault::Damaged(Check::HeaderChecksum, None)
        });
    }
    bad.extend(
        [(0, first), (7, second)].iter().filter(|(_, copy)| *copy != now).map(|(at, _)| *at),
    );
    Headers::Good
}

enum Slots<'a> {
    /// The slots of the current state.
    Now,
    /// The slots of another state.
    Other(&'a State),
    /// The slots of a commit between two states.
    Unknown,
    Fault(Vec<Fault>),
}

/// Returns which commit the meta slots make the current one.
fn slots<'a>(victim: &'a Victim, image: &[u8], bad: &mut Vec<u32>) -> Slots<'a> {
    let mut found: [Option<Generation>; 4] = [None; 4];
    for (position, found) in (1..).zip(&mut found) {
        let bytes = block(image, position);
        let of = |state: &&State| block(&state.image, position) == bytes;
        *found = victim.known_states().find(of).map(|_| generation(bytes));
        if found.is_none() {
            bad.push(position);
        }
    }
    let good: Vec<Generation> = found.iter().flatten().copied().collect();
    let order = |generation: &Generation| (generation.session, generation.step);
    for (at, first) in good.iter().enumerate() {
        if good[at + 1..].iter().any(|second| order(first) == order(second) && first != second) {
            return Slots::Fault(
                (1..=4).map(|at| Fault::Tampered(Check::Fork, Some(at))).collect(),
            );
        }
    }
    let lost: Vec<Fault> = [(0, 2), (1, 3)]
        .iter()
        .filter(|&&(first, second)| found[first].is_none() && found[second].is_none())
        .map(|&(first, _)| u32::try_from(first + 1).expect("1 or 2"))
        .map(|first| Fault::Damaged(Check::MetaSlot, Some(first)))
        .collect();
    if !lost.is_empty() {
        return Slots::Fault(lost);
    }
    if !numbers_fit(victim, &found) {
        return Slots::Fault(
            (1..=4).map(|at| Fault::Tampered(Check::CommitNumber, Some(at))).collect(),
        );
    }
    let newest = good.iter().max_by_key(|generation| order(generation)).expect("no pair is lost");
    if *newest == newest_of(victim.now()) {
        return Slots::Now;
    }
    match victim.known_states().find(|state| newest_of(state) == *newest) {
        Some(state) => Slots::Other(state),
        None => Slots::Unknown,
    }
}

/// Returns whether a history of writers and crashes can leave these commits: the copies of a pair differ by 0 or 2
/// commits, the pairs by 1.
fn numbers_fit(victim: &Victim, found: &[Option<Generation>; 4]) -> bool {
    let pair = |first: usize, second: usize| -> Vec<u64> {
        let good = [found[first], found[second]].into_iter().flatten();
        good.map(|generation| victim.number(generation)).collect()
    };
    let (odd, even) = (pair(0, 2), pair(1, 3));
    let are_copies = |pair: &[u64]| match *pair {
        [first, second] => matches!(first.abs_diff(second), 0 | 2),
        _ => true,
    };
    let newest = |pair: &[u64]| *pair.iter().max().expect("no pair is lost");
    are_copies(&odd) && are_copies(&even) && newest(&odd).abs_diff(newest(&even)) == 1
}

/// Returns the generation of the newest meta slot of a state, whose commit is the current one.
fn newest_of(state: &State) -> Generation {
    let generations = (1..=4).map(|position| generation(block(&state.image, position)));
    generations.max_by_key(|generation| (generation.session, generation.step)).expect("four slots")
}

/// Returns the generation of a sealed block: the start of its nonce, which is not secret.
pub(super) fn generation(bytes: &[u8]) -> Generation {
    Generation::decode(*bytes.first_chunk().expect("a block"))
}

/// Returns whether an error matches a field of the header that was changed in both copies.
pub(super) fn fits_field(byte: usize, fault: Fault) -> bool {
    let within = |field: ar7_engine::format::Field| {
        (field.offset..field.offset + field.length).contains(&byte)
    };
    let parsing = matches!(fault, Fault::Damaged(..));
    let code = matches!(fault, Fault::Tampered(Check::HeaderMac, _));
    let slot = matches!(fault, Fault::Tampered(Check::KeySlot, _));
    let newer = fault == Fault::NewerFormat;
    if within(header_layout::MAGIC) {
        fault == Fault::NotAnArchive
    } else if within(header_layout::VERSION) {
        newer || parsing
    } else if within(header_layout::FEATURES) {
        newer || code
    } else if within(header_layout::ARCHIVE) {
        slot
    } else if within(header_layout::KIND) {
        newer || parsing || code
    } else if within(header_layout::SLOTS) {
        let within_slots = byte - header_layout::SLOTS.offset;
        let (number, byte) =
            (within_slots / key_slot_layout::SIZE, within_slots % key_slot_layout::SIZE);
        // The first slot is in use. Another salt or commitment means a different key; any other change of the slot is
        // tampering.
        let of_key = [key_slot_layout::KIND, key_slot_layout::SALT, key_slot_layout::COMMITMENT];
        let is_of_key =
            of_key.iter().any(|field| (field.offset..field.offset + field.length).contains(&byte));
        match (number, is_of_key) {
            (0, true) => newer || parsing || fault == Fault::WrongKey,
            (0, false) => newer || parsing || slot,
            _ => newer || parsing || code,
        }
    } else if within(header_layout::REVISION) || within(header_layout::MAC) {
        code
    } else {
        parsing || code
    }
}
