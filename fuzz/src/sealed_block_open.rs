//! Opening of one sealed block: a block opens only at the position, as the kind and under the key for which it was
//! sealed.

use ar7_engine::Error;
use ar7_engine::crypto::{KeyKind, Opened, Sealer};
use ar7_engine::format::{
    BLOCK_SIZE, BLOCKS_MAX, Generation, PLAIN_SIZE, Position, header_layout, plain,
};
use uuid::Uuid;

use crate::golden::{Golden, goldens};
use crate::reference::{KINDS, Plain, Sealed, finish_plain, generation, nonce, sha1};
use crate::unstructured::Unstructured;

/// What a block is sealed as or opened as.
#[derive(Clone, Copy)]
struct Seat {
    /// The number of the archive whose keys are used.
    archive: usize,
    kind: KeyKind,
    place: Position,
}

/// Seals a block with the reference crates as `bytes` direct, changes it or opens it as something else, and checks the
/// result. Returns whether it opened.
///
/// # Panics
/// If a block opens that was not sealed, if its content differs, or if an error is not damage at that position.
pub fn sealed_block_open(bytes: &[u8]) -> bool {
    let mut unstructured = Unstructured::new(bytes);
    let seat = Seat {
        archive: unstructured.below(goldens().len()),
        kind: KINDS[unstructured.below(KINDS.len())],
        place: Position::at(unstructured.quad() % BLOCKS_MAX),
    };
    let sealed_in = Generation::decode(unstructured.array());
    let nonce = nonce(sealed_in, unstructured.array());
    let plaintext = any_plaintext(&mut unstructured, seat.place);
    let block = goldens()[seat.archive].keys.seal(seat.kind, seat.place, &nonce, &plaintext);
    assert_eq!(generation(&block), sealed_in, "a block has the generation in which it was sealed");

    let asked = other_seat(seat, &mut unstructured);
    let mut changed = block;
    for _ in 0..unstructured.below(4) {
        changed[unstructured.word() % BLOCK_SIZE] ^= unstructured.octet();
    }
    let expected = opened_by_reference(asked, &changed);
    let is_as_sealed = changed == block
        && (asked.archive, asked.kind, asked.place) == (seat.archive, seat.kind, seat.place);
    assert!(expected.is_none() || is_as_sealed, "a block that was never sealed opens");
    check_opening(asked, &changed, expected.as_ref());
    check_batch(&[(seat, &block), (asked, &changed), (seat, &changed)], asked.kind, asked.archive);
    expected.is_some()
}

/// Returns a plaintext with an arbitrary head. Links are most often in bounds, and digests most often correct.
fn any_plaintext(unstructured: &mut Unstructured<'_>, place: Position) -> Plain {
    let mut plaintext = [0; PLAIN_SIZE];
    let pattern = unstructured.take(32);
    let data = plain::DATA.of_mut(&mut plaintext);
    for (byte, pattern) in data.iter_mut().zip(pattern.iter().cycle()) {
        *byte = *pattern;
    }
    finish_plain(&mut plaintext);
    for field in [plain::PREVIOUS, plain::NEXT] {
        let link = match unstructured.below(6) {
            0 | 1 => -1,
            2 => i32::MAX,
            3 => place.get().cast_signed(),
            4 => unstructured.quad().cast_signed(),
            _ => (unstructured.quad() >> 1).cast_signed(),
        };
        field.put(&mut plaintext, &link.to_be_bytes());
    }
    plain::INDEX.put(&mut plaintext, &unstructured.array::<4>());
    plain::STREAM.put(&mut plaintext, &unstructured.array::<16>());
    if unstructured.below(8) == 1 {
        plaintext[plain::DIGEST.offset + unstructured.below(20)] ^= unstructured.octet();
    }
    plaintext
}

/// Returns the same seat, or an adjacent one.
fn other_seat(seat: Seat, unstructured: &mut Unstructured<'_>) -> Seat {
    let place = seat.place.get();
    let moved = |place: u32| Seat { place: Position::at(place % BLOCKS_MAX), ..seat };
    match unstructured.below(12) {
        1 => Seat { archive: unstructured.below(goldens().len()), ..seat },
        2 => Seat { kind: KINDS[unstructured.below(KINDS.len())], ..seat },
        3 => moved(place ^ 1 << (unstructured.byte() % 31)),
        4 => moved(unstructured.quad()),
        _ => seat,
    }
}

fn sealer(seat: Seat) -> Sealer {
    let golden: &Golden = &goldens()[seat.archive];
    let header = golden.header();
    Sealer::new(&golden.master, Uuid::from_bytes(header_layout::ARCHIVE.array(&header)))
}

/// Opens a block as docs/FORMAT.md specifies: checks its tag, its links and its digest.
fn opened_by_reference(seat: Seat, block: &Sealed) -> Option<Plain> {
    let plaintext = goldens()[seat.archive].keys.open(seat.kind, seat.place, block)?;
    let allowed = |field: ar7_engine::format::Field| {
        let link = i32::from_be_bytes(field.array(&plaintext));
        let place = seat.place.get().cast_signed();
        link == -1 || ((0..i32::MAX).contains(&link) && link != place)
    };
    let is_whole = allowed(plain::PREVIOUS)
        && allowed(plain::NEXT)
        && sha1(plain::DATA.of(&plaintext)) == plain::DIGEST.array(&plaintext);
    is_whole.then_some(plaintext)
}

fn check_opening(seat: Seat, block: &Sealed, expected: Option<&Plain>) {
    let mut copy = *block;
    match (sealer(seat).open_in_place(seat.kind, seat.place, &mut copy), expected) {
        (Ok(opened), Some(expected)) => check_opened(&opened, generation(block), expected),
        (Err(Error::Damaged(fault)), None) => assert_eq!(fault.position, Some(seat.place)),
        (Ok(_), None) => panic!("an invalid block opens"),
        (Err(error), Some(_)) => panic!("a sealed block does not open: {error}"),
        (Err(other), None) => panic!("an invalid block is reported as: {other}"),
    }
}

fn check_opened(opened: &Opened<'_>, sealed_in: Generation, expected: &Plain) {
    assert_eq!(opened.generation, sealed_in, "the generation of the nonce");
    assert!(opened.data[..] == *plain::DATA.of(expected), "the data that was sealed");
    let mut head = [0; plain::DATA.offset];
    opened.head.encode(&plain::DIGEST.array(expected), &mut head);
    assert_eq!(head, expected[..plain::DATA.offset], "the head that was sealed");
}

/// Checks that a batch opens the same blocks as opening them one at a time.
fn check_batch(blocks: &[(Seat, &Sealed)], kind: KeyKind, archive: usize) {
    let seats: Vec<Seat> = blocks.iter().map(|&(seat, _)| Seat { archive, kind, ..seat }).collect();
    let mut bytes: Vec<u8> = blocks.iter().flat_map(|(_, block)| **block).collect();
    let mut opened = vec![false; blocks.len()];
    let places = seats.iter().map(|seat| seat.place);
    sealer(seats[0]).open_batch(kind, places, &mut bytes, &mut opened);
    for ((seat, (_, block)), opened) in seats.iter().zip(blocks).zip(opened) {
        let expected = opened_by_reference(*seat, block);
        assert_eq!(
            opened,
            expected.is_some(),
            "a block opens in a batch if and only if it opens alone"
        );
    }
}

/// Returns initial inputs: a block that opens, and some that do not.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut whole = vec![0, 0, 0, 1, 0, 9];
    whole.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    whole.extend(1..=12);
    whole.extend(*b"32 bytes of data, again and agai");
    whole.extend([0, 5, 0, 0, 0, 20]);
    whole.extend([7; 20]);
    let digest = [&whole[..], &[1, 3, 8, 0, 0]].concat();
    let moved = [&whole[..], &[0, 3, 16, 0]].concat();
    let flipped = [&whole[..], &[0, 0, 2, 0x0f, 0, 1, 0, 5, 2]].concat();
    vec![whole, digest, moved, flipped]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_block_opens_only_as_it_was_sealed() {
        const CASES: u32 = 3000;
        let mut random = Random::new(0x6f70_656e);
        let mut opened = 0;
        for _ in 0..CASES {
            let mut bytes = [0; 120];
            random.fill(&mut bytes);
            opened += u32::from(sealed_block_open(&bytes));
        }
        assert!(opened > CASES / 100 && opened < CASES / 2, "{opened} of {CASES} opened");
    }

    #[test]
    fn seeds_open_or_fail_as_intended() {
        let opened: Vec<bool> = seeds().iter().map(|seed| sealed_block_open(seed)).collect();
        assert_eq!(opened, [true, false, false, false]);
    }
}
