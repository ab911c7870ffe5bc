use std::collections::HashSet;

use chacha20poly1305::XChaCha20Poly1305;
use proptest::prelude::*;
use uuid::Uuid;
use zeroize::ZeroizeOnDrop;

use super::{ARCHIVE, master};
use crate::crypto::aead::Cipher;
use crate::crypto::nonce::NonceSource;
use crate::crypto::{
    HeaderKey, KeyKind, MasterKey, Passphrase, RawKey, SealJob, Sealer, Secret, digest,
    digest_batch,
};
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, BlockHead, BlockIndex, DATA_SIZE, Data, Generation, Position, sealed,
};

const GENERATION: Generation = Generation { session: 1, step: 2, salt: 3 };
const HERE: Position = Position::at(42);

type Bytes = [u8; BLOCK_SIZE];

fn sealer() -> Sealer {
    Sealer::new(&master(), ARCHIVE)
}

fn head(index: u32) -> BlockHead {
    BlockHead {
        previous: Some(Position::at(8)),
        next: None,
        index: BlockIndex(index),
        stream: Uuid::from_u128(0xabc),
    }
}

fn job(position: Position, data: &Data) -> SealJob<'_> {
    SealJob { position, head: head(position.get()), data }
}

fn seal(kind: KeyKind, data: &Data) -> Bytes {
    let mut bytes = [0; BLOCK_SIZE];
    sealer().seal_batch(kind, GENERATION, &[job(HERE, data)], &mut bytes).expect("sealed");
    bytes
}

fn open(sealer: &Sealer, kind: KeyKind, position: Position, bytes: &Bytes) -> Result<Data> {
    let mut bytes = *bytes;
    sealer.open_in_place(kind, position, &mut bytes).map(|opened| *opened.data)
}

fn check_of<T>(outcome: Result<T>) -> Option<Check> {
    match outcome {
        Err(Error::Damaged(fault)) if fault.position == Some(HERE) => Some(fault.check),
        _ => None,
    }
}

#[test]
fn blocks_open_as_they_were_sealed() {
    for kind in KeyKind::ALL {
        let data = [0x5a; DATA_SIZE];
        let mut bytes = seal(kind, &data);
        assert_eq!(bytes[..12], GENERATION.encode());
        let sealer = sealer();
        let opened = sealer.open_in_place(kind, HERE, &mut bytes).expect("opened");
        assert_eq!((opened.generation, opened.head), (GENERATION, head(42)));
        assert_eq!(*opened.data, data);
    }
}

#[test]
fn every_flipped_byte_of_a_sealed_block_is_detected() {
    let bytes = seal(KeyKind::Data, &[7; DATA_SIZE]);
    let sealer = sealer();
    for at in 0..BLOCK_SIZE {
        for bit in [1, 0x80] {
            let mut changed = bytes;
            changed[at] ^= bit;
            let outcome = open(&sealer, KeyKind::Data, HERE, &changed);
            assert_eq!(check_of(outcome), Some(Check::Tag), "byte {at}");
        }
    }
    assert!(open(&sealer, KeyKind::Data, HERE, &bytes).is_ok(), "the block itself opens");
}

#[test]
fn a_block_opens_only_at_its_place_as_its_kind_in_its_archive() {
    let bytes = seal(KeyKind::Data, &[7; DATA_SIZE]);
    for position in [0, 41, 43, 0x7fff_fffe] {
        let outcome = open(&sealer(), KeyKind::Data, Position::at(position), &bytes);
        let Err(Error::Damaged(fault)) = outcome else { panic!("opened at {position}") };
        assert_eq!((fault.check, fault.position), (Check::Tag, Position::new(position)));
    }
    for sealed_as in KeyKind::ALL {
        let bytes = seal(sealed_as, &[7; DATA_SIZE]);
        for opened_as in KeyKind::ALL {
            let outcome = open(&sealer(), opened_as, HERE, &bytes);
            assert_eq!(outcome.is_ok(), sealed_as == opened_as, "{sealed_as:?} {opened_as:?}");
        }
    }
    let another_archive = Sealer::new(&master(), Uuid::nil());
    let another_key = Sealer::new(&MasterKey::from_bytes([9; 32]), ARCHIVE);
    for other in [another_archive, another_key] {
        assert_eq!(check_of(open(&other, KeyKind::Data, HERE, &bytes)), Some(Check::Tag));
    }
}

#[test]
fn parts_of_two_versions_do_not_make_a_third() {
    let (old, new) = (seal(KeyKind::Data, &[1; DATA_SIZE]), seal(KeyKind::Data, &[2; DATA_SIZE]));
    for field in sealed::FIELDS {
        let mut spliced = old;
        field.put(&mut spliced, field.of(&new));
        let outcome = open(&sealer(), KeyKind::Data, HERE, &spliced);
        assert_eq!(check_of(outcome), Some(Check::Tag), "{}", field.name);
    }
}

#[test]
fn data_that_changed_before_sealing_fails_its_digest() {
    let data = [7; DATA_SIZE];
    let mut wrong = digest(&data);
    wrong[19] ^= 1;
    let mut bytes = [0; BLOCK_SIZE];
    let [nonce] = NonceSource::new(GENERATION).expect("random bytes").draw();
    sealer().seal(KeyKind::Data, &job(HERE, &data), &wrong, &nonce, &mut bytes);
    let outcome = open(&sealer(), KeyKind::Data, HERE, &bytes);
    assert_eq!(check_of(outcome), Some(Check::Digest));
}

#[test]
fn a_block_that_links_to_itself_is_damage_despite_a_valid_tag() {
    let data = [7; DATA_SIZE];
    let head = BlockHead { next: Some(HERE), ..head(0) };
    let mut bytes = [0; BLOCK_SIZE];
    let jobs = [SealJob { position: HERE, head, data: &data }];
    sealer().seal_batch(KeyKind::Data, GENERATION, &jobs, &mut bytes).expect("sealed");
    let outcome = open(&sealer(), KeyKind::Data, HERE, &bytes);
    assert_eq!(check_of(outcome), Some(Check::NextLink));
}

#[test]
fn batches_of_any_size_are_sealed_in_order_with_a_nonce_each() {
    let data: Vec<Data> = (0..200).map(|number| [number; DATA_SIZE]).collect();
    let sealer = sealer();
    for count in [0, 1, 15, 16, 17, 63, 64, 65, 128, 200] {
        let jobs: Vec<SealJob<'_>> =
            (100..).map(Position::at).zip(&data[..count]).map(|(at, data)| job(at, data)).collect();
        let mut bytes = vec![0; count * BLOCK_SIZE];
        sealer.seal_batch(KeyKind::Registry, GENERATION, &jobs, &mut bytes).expect("sealed");
        let mut nonces = HashSet::new();
        for (job, block) in jobs.iter().zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            assert!(nonces.insert(sealed::NONCE.of(block)[12..].to_vec()), "a nonce repeats");
            let block = block.try_into().expect("a block");
            let opened = sealer.open_in_place(KeyKind::Registry, job.position, block);
            let opened = opened.expect("opened");
            assert_eq!((opened.generation, opened.head), (GENERATION, job.head));
            assert_eq!(opened.data, job.data);
        }
        assert_eq!(nonces.len(), count);
    }
}

/// A fault of a block to be opened.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// One byte is changed.
    Changed(usize),
    /// Sealed for another position.
    Moved,
    /// Sealed with the digest of other data.
    Digest,
    /// Sealed with a link to itself.
    Link,
}

/// Returns blocks sealed for the positions from 100 on, each with its fault.
fn sealed_with(wrongs: &[Wrong]) -> Vec<Bytes> {
    let (sealer, mut nonces) = (sealer(), NonceSource::new(GENERATION).expect("random bytes"));
    let mut seal = |position: Position, fill: u8, wrong: Wrong| {
        let data = [fill; DATA_SIZE];
        let other = Position::at(position.get() + 7);
        let place = if wrong == Wrong::Moved { other } else { position };
        let mut job = job(place, &data);
        job.head.next = (wrong == Wrong::Link).then_some(position);
        let of = if wrong == Wrong::Digest { [!fill; DATA_SIZE] } else { data };
        let mut bytes = [0; BLOCK_SIZE];
        let [nonce] = nonces.draw();
        sealer.seal(KeyKind::Data, &job, &digest(&of), &nonce, &mut bytes);
        if let Wrong::Changed(at) = wrong {
            bytes[at] ^= 0x10;
        }
        bytes
    };
    (0..)
        .zip(wrongs)
        .map(|(number, &wrong)| seal(Position::at(100 + u32::from(number)), number, wrong))
        .collect()
}

/// Opens a batch, and each of its blocks alone. Asserts that the outcomes and the bytes are the same.
#[track_caller]
fn check_opened_as_one_by_one(wrongs: &[Wrong]) {
    let (sealer, blocks) = (sealer(), sealed_with(wrongs));
    let mut bytes: Vec<u8> = blocks.as_flattened().to_vec();
    let mut opened = vec![true; blocks.len()];
    let positions = || (100..).map(Position::at).take(blocks.len());
    sealer.open_batch(KeyKind::Data, positions(), &mut bytes, &mut opened);
    for (number, (mut block, position)) in blocks.iter().copied().zip(positions()).enumerate() {
        let alone = sealer.open_in_place(KeyKind::Data, position, &mut block).is_ok();
        assert_eq!(alone, wrongs[number] == Wrong::Nothing, "block {number}");
        assert_eq!(opened[number], alone, "block {number}: {:?}", wrongs[number]);
        let left = &bytes[number * BLOCK_SIZE..][..BLOCK_SIZE];
        assert!(!alone || *left == block, "the bytes of block {number}");
    }
}

#[test]
fn batches_of_any_size_are_opened() {
    for count in (0..=50).chain([64, 100]) {
        check_opened_as_one_by_one(&vec![Wrong::Nothing; count]);
    }
}

#[test]
fn a_bad_block_is_found_anywhere_in_a_batch() {
    let bad =
        [Wrong::Moved, Wrong::Digest, Wrong::Link, Wrong::Changed(2000), Wrong::Changed(4095)];
    for count in [1, 2, 9, 16, 20] {
        for at in 0..count {
            for wrong in bad {
                let mut wrongs = vec![Wrong::Nothing; count];
                wrongs[at] = wrong;
                check_opened_as_one_by_one(&wrongs);
            }
        }
    }
    for wrong in bad {
        check_opened_as_one_by_one(&[wrong; 17]);
    }
}

#[test]
fn a_batch_opens_only_as_its_kind_in_its_archive() {
    let blocks = sealed_with(&[Wrong::Nothing; 17]);
    let positions = || (100..117).map(Position::at);
    let another = Sealer::new(&master(), Uuid::nil());
    for (sealer, kind) in [(another, KeyKind::Data), (sealer(), KeyKind::Registry)] {
        let mut opened = [true; 17];
        let mut bytes = blocks.as_flattened().to_vec();
        sealer.open_batch(kind, positions(), &mut bytes, &mut opened);
        assert_eq!(opened, [false; 17]);
    }
}

#[test]
#[should_panic(expected = "a position for each block")]
fn a_batch_has_a_position_for_each_block() {
    sealer().open_batch(KeyKind::Data, [HERE], &mut [0; 2 * BLOCK_SIZE], &mut [false; 2]);
}

#[test]
#[should_panic(expected = "a block for each position")]
fn a_batch_has_a_block_for_each_position() {
    sealer().open_batch(KeyKind::Data, [HERE; 2], &mut [0; BLOCK_SIZE], &mut [false]);
}

#[test]
fn a_block_sealed_twice_has_two_nonces() {
    let data = [7; DATA_SIZE];
    assert_ne!(seal(KeyKind::Data, &data), seal(KeyKind::Data, &data));
}

#[test]
#[should_panic(expected = "room for the batch")]
fn a_batch_fills_its_buffer() {
    let data = [7; DATA_SIZE];
    let mut bytes = [0; 2 * BLOCK_SIZE];
    let _ = sealer().seal_batch(KeyKind::Data, GENERATION, &[job(HERE, &data)], &mut bytes);
}

#[test]
fn digest_batch_returns_the_digest_of_each_block() {
    let data: Vec<Data> = (0..40).map(|number| [number; DATA_SIZE]).collect();
    let blocks: Vec<&Data> = data.iter().collect();
    let mut digests = vec![[0; 20]; blocks.len()];
    digest_batch(&blocks, &mut digests);
    assert_eq!(digests, data.iter().map(digest).collect::<Vec<_>>());
}

#[test]
fn a_header_code_is_valid_only_for_its_bytes_and_its_key() {
    let key = HeaderKey::derive(&master(), ARCHIVE);
    let mac = key.mac(b"header");
    assert!(key.verify(b"header", &mac));
    assert!(!key.verify(b"Header", &mac));
    for at in 0..mac.len() {
        let mut wrong = mac;
        wrong[at] ^= 1;
        assert!(!key.verify(b"header", &wrong), "byte {at}");
    }
    assert!(!HeaderKey::derive(&master(), Uuid::nil()).verify(b"header", &mac));
}

#[test]
fn keys_are_wiped_shared_between_threads_and_never_printed() {
    fn wiped<T: ZeroizeOnDrop>() {}
    fn shared<T: Send + Sync>() {}
    // Does not compile without the cipher crate's feature `zeroize`.
    wiped::<XChaCha20Poly1305>();
    wiped::<Cipher>();
    wiped::<MasterKey>();
    wiped::<RawKey>();
    wiped::<Passphrase>();
    wiped::<HeaderKey>();
    shared::<Sealer>();
    let secrets = [
        format!("{:?}", Secret::Key(RawKey::from_bytes([0xab; 32]))),
        format!("{:?}", Secret::Passphrase(Passphrase::new(vec![0xab; 32]))),
        format!("{:?}", MasterKey::from_bytes([0xab; 32])),
        format!("{:?}", sealer()),
    ];
    for text in secrets {
        assert!(!text.contains("171") && !text.to_lowercase().contains("abab"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_opening_panic(
        bytes in proptest::collection::vec(any::<u8>(), BLOCK_SIZE),
        kind in proptest::sample::select(KeyKind::ALL.to_vec()),
    ) {
        let bytes: Bytes = bytes.try_into().expect("a block");
        prop_assert_eq!(check_of(open(&sealer(), kind, HERE, &bytes)), Some(Check::Tag));
    }

    #[test]
    fn any_batch_is_opened_as_its_blocks_one_by_one(
        wrongs in proptest::collection::vec(
            prop_oneof![
                4 => Just(Wrong::Nothing),
                1 => (0..BLOCK_SIZE).prop_map(Wrong::Changed),
                1 => Just(Wrong::Moved),
                1 => Just(Wrong::Digest),
                1 => Just(Wrong::Link),
            ],
            0..40,
        ),
    ) {
        check_opened_as_one_by_one(&wrongs);
    }

    #[test]
    fn any_plaintext_sealed_with_the_key_opens_or_is_damage(
        digest in proptest::array::uniform20(any::<u8>()),
        right in any::<bool>(),
        fill in any::<u8>(),
        links in proptest::array::uniform2(proptest::option::of(40..45_u32)),
    ) {
        let data = [fill; DATA_SIZE];
        let digest = if right { crate::crypto::digest(&data) } else { digest };
        let [previous, next] = links.map(|link| link.map(Position::at));
        let head = BlockHead { previous, next, ..head(1) };
        let job = SealJob { position: HERE, head, data: &data };
        let [nonce] = NonceSource::new(GENERATION).expect("random bytes").draw();
        let mut bytes = [0; BLOCK_SIZE];
        sealer().seal(KeyKind::Data, &job, &digest, &nonce, &mut bytes);
        let own = links.contains(&Some(HERE.get()));
        prop_assert_eq!(open(&sealer(), KeyKind::Data, HERE, &bytes).is_ok(), right && !own);
    }
}
