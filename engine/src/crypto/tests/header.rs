use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::crypto::{HeaderKey, MasterKey};
use crate::error::{Check, Error, Result};
use crate::format::tests::{apply, damaged_check, edits};
use crate::format::{
    ArchiveKind, BLOCK_SIZE, DerivationCost, Header, KeySlot, Label, MAGIC, Position, Rekey,
    Timestamp, UncheckedHeader, UsedSlot, header_digest, header_layout, rekey_layout,
};

const HERE: Position = Position::at(7);
const ARCHIVE: Uuid = Uuid::from_u128(0x1234);

type Bytes = [u8; BLOCK_SIZE];

/// A change of an encoded header.
type Change = fn(&mut Bytes);

fn key() -> HeaderKey {
    HeaderKey::derive(&MasterKey::from_bytes([9; 32]), ARCHIVE)
}

fn header() -> Header {
    let cost = DerivationCost { memory_kib: 65536, passes: 3, lanes: 1 };
    let label = Label::new("laptop").expect("a label");
    let slot = UsedSlot {
        cost: Some(cost),
        salt: [1; 32],
        label,
        commitment: [2; 32],
        nonce: [3; 24],
        wrapped: [4; 48],
    };
    let mut slots = std::array::from_fn(|_| KeySlot::Empty);
    slots[2] = KeySlot::Used(Box::new(slot));
    let created = Timestamp { seconds: -1, nanoseconds: 999_999_999 };
    Header::new(ARCHIVE, ArchiveKind::Fixed, created, slots)
}

fn encoded() -> Box<Bytes> {
    header().encode(&key())
}

/// Corrects the checksum, as anyone without the key can.
fn with_checksum(bytes: &mut Bytes) {
    let checksum = Sha256::digest(&bytes[..header_layout::CHECKSUM.offset]);
    header_layout::CHECKSUM.put(bytes, &checksum);
}

/// Corrects the authentication code and the checksum, as a holder of the key can.
fn with_mac(bytes: &mut Bytes) {
    let mac = key().mac(&bytes[..header_layout::MAC.offset]);
    header_layout::MAC.put(bytes, &mac);
    with_checksum(bytes);
}

fn parse(bytes: &Bytes) -> Result<UncheckedHeader> {
    UncheckedHeader::parse(HERE, bytes)
}

#[test]
fn headers_decode_to_themselves() {
    let unchecked = parse(&encoded()).expect("a header");
    assert_eq!(unchecked.archive(), ARCHIVE);
    assert_eq!(unchecked.slots(), &header().slots);
    assert_eq!(unchecked.revision(), 1);
    assert!(unchecked.check_writable().is_ok());
    assert_eq!(unchecked.authenticate(&key()).expect("the right key"), header());
}

#[test]
fn a_rekey_is_recorded_and_authenticated_under_both_master_keys() {
    let old = HeaderKey::derive(&MasterKey::from_bytes([8; 32]), ARCHIVE);
    let mut header = header();
    let mut rekey = Rekey { number: 7, nonce: [5; 24], wrapped: [6; 48], code: [0; 32] };
    header.rekey = Some(rekey);
    rekey.code = header.rekey_code(&old);
    header.rekey = Some(rekey);
    let bytes = header.encode(&key());
    let unchecked = parse(&bytes).expect("a header");
    assert_eq!(unchecked.rekey(), Some(&rekey));
    assert!(unchecked.is_rekey_of(&old) && !unchecked.is_rekey_of(&key()));
    assert_eq!(unchecked.authenticate(&key()).expect("the right key"), header);
    // After any change, the old key does not authenticate the record.
    for at in (0..header_layout::REKEY.end()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        with_mac(&mut changed);
        let authentic = parse(&changed).is_ok_and(|header| header.is_rekey_of(&old));
        assert!(!authentic, "byte {at}");
    }
    // A record without a number must be all zeros.
    let mut changed = bytes.clone();
    rekey_layout::NUMBER.put(header_layout::REKEY.of_mut(&mut changed[..]), &[0; 4]);
    with_mac(&mut changed);
    assert_eq!(damaged_check(&parse(&changed).unwrap_err()), Some(Check::Reserved));
    let none = parse(&encoded()).expect("a header");
    assert!(none.rekey().is_none() && !none.is_rekey_of(&old));
}

#[test]
fn a_revision_is_readable_without_the_key() {
    let mut header = header();
    header.revision = 0x0102_0304_0506_0708;
    assert_eq!(parse(&header.encode(&key())).unwrap().revision(), header.revision);
}

#[test]
fn kinds_have_names_and_the_clock_is_plausible() {
    let kinds = [ArchiveKind::Single, ArchiveKind::Fixed, ArchiveKind::Dynamic];
    assert_eq!(kinds.map(ArchiveKind::name), ["single", "fixed", "dynamic"]);
    // The start of 2026, when this test was written.
    let written = 1_767_225_600;
    assert!(Timestamp::now().seconds > written);
}

#[test]
fn a_header_starts_with_magic_and_version() {
    let bytes = encoded();
    assert_eq!(bytes[..16], MAGIC);
    assert_eq!(bytes[16..24], [0, 0, 0, 1, 0, 0, 0x08, 0x58]);
    assert!(matches!(parse(&[0; BLOCK_SIZE]), Err(Error::NotAnArchive { .. })));
}

#[test]
fn every_flipped_bit_of_a_header_is_detected() {
    let bytes = encoded();
    for at in 0..BLOCK_SIZE {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            let newer = header_layout::FEATURES.offset + 16..header_layout::FEATURES.end();
            let authenticated = parse(&changed).and_then(|header| header.authenticate(&key()));
            let error = authenticated.expect_err("a flipped bit");
            let as_expected = match at {
                0..16 => matches!(error, Error::NotAnArchive { .. }),
                // Version 0 is not newer, so the checksum decides.
                19 if bit == 1 => damaged_check(&error) == Some(Check::HeaderChecksum),
                16..20 => matches!(error, Error::NewerFormat { what: "format version", .. }),
                _ if newer.contains(&at) => matches!(error, Error::NewerFormat { .. }),
                // This covers the authentication code: corruption of it must not look like tampering, because there
                // is a second copy.
                _ => damaged_check(&error) == Some(Check::HeaderChecksum),
            };
            assert!(as_expected, "byte {at}: {error}");
        }
    }
}

#[test]
fn a_valid_checksum_with_an_invalid_code_is_tampering() {
    let changes: [(&str, Change); 4] = [
        ("revision", |bytes| bytes[header_layout::REVISION.end() - 1] = 9),
        ("a slot removed", |bytes| header_layout::SLOTS.of_mut(bytes).fill(0)),
        ("time of creation", |bytes| bytes[header_layout::CREATED_SECONDS.offset] = 1),
        ("a feature", |bytes| bytes[header_layout::FEATURES.offset] = 1),
    ];
    for (name, change) in changes {
        let mut bytes = encoded();
        change(&mut bytes);
        with_checksum(&mut bytes);
        let unchecked = parse(&bytes).expect(name);
        let error = unchecked.authenticate(&key()).expect_err(name);
        let Error::Tampered(fault) = error else { panic!("{name}: {error}") };
        assert_eq!((fault.check, fault.position), (Check::HeaderMac, Some(HERE)), "{name}");
    }
    let other = HeaderKey::derive(&MasterKey::from_bytes([9; 32]), Uuid::nil());
    assert!(parse(&encoded()).expect("a header").authenticate(&other).is_err());
}

#[test]
fn fields_out_of_bounds_are_damage_even_with_the_key() {
    let field = Check::HeaderField;
    let hostile: [(&str, Check, Change); 8] = [
        ("version 0", field, |bytes| header_layout::VERSION.of_mut(bytes).fill(0)),
        ("kind 0", field, |bytes| header_layout::KIND.of_mut(bytes)[0] = 0),
        ("10^9 nanoseconds", field, |bytes| {
            header_layout::CREATED_NANOSECONDS.put(bytes, &1_000_000_000_u32.to_be_bytes());
        }),
        ("reserved bytes", Check::Reserved, |bytes| header_layout::RESERVED.of_mut(bytes)[2] = 1),
        ("too short", Check::Length, |bytes| {
            header_layout::LENGTH.put(bytes, &2135_u32.to_be_bytes());
        }),
        ("too long", Check::Length, |bytes| {
            header_layout::LENGTH.put(bytes, &4033_u32.to_be_bytes());
        }),
        ("the greatest length", Check::Length, |bytes| {
            header_layout::LENGTH.of_mut(bytes).fill(0xff);
        }),
        ("a tail beyond the length", Check::Reserved, |bytes| {
            header_layout::TAIL.of_mut(bytes)[0] = 1;
        }),
    ];
    for (name, check, change) in hostile {
        let mut bytes = encoded();
        change(&mut bytes);
        with_mac(&mut bytes);
        let error = parse(&bytes).expect_err(name);
        assert_eq!(damaged_check(&error), Some(check), "{name}");
        let text = error.to_string();
        match name {
            "10^9 nanoseconds" => {
                assert!(text.ends_with("expected 0 to 999999999, found 1000000000"), "{text}");
            }
            "too long" => assert!(text.ends_with("expected 2136 to 3924, found 4033"), "{text}"),
            _ => {}
        }
    }
}

#[test]
fn a_newer_format_is_not_reported_as_damage() {
    let newer: [(&str, Change); 4] = [
        ("format version", |bytes| bytes[header_layout::VERSION.end() - 1] = 2),
        ("required features", |bytes| bytes[header_layout::FEATURES.end() - 1] = 1),
        ("kind of archive", |bytes| header_layout::KIND.of_mut(bytes)[0] = 4),
        ("kind of key slot", |bytes| header_layout::SLOTS.of_mut(bytes)[0] = 3),
    ];
    for (expected, change) in newer {
        let mut bytes = encoded();
        change(&mut bytes);
        with_mac(&mut bytes);
        let error = parse(&bytes).expect_err(expected);
        assert!(matches!(error, Error::NewerFormat { what, .. } if what == expected), "{error}");
    }
    // A newer program's header may be laid out differently, checksum and all.
    let mut foreign = [0xaa; BLOCK_SIZE];
    foreign[..16].copy_from_slice(&MAGIC);
    assert!(matches!(parse(&foreign), Err(Error::NewerFormat { .. })));
}

#[test]
fn features_only_for_writing_and_later_fields_are_kept() {
    let mut bytes = encoded();
    header_layout::LENGTH.put(&mut bytes[..], &(2136_u32 + 10).to_be_bytes());
    header_layout::TAIL.of_mut(&mut bytes[..])[..9].copy_from_slice(b"new field");
    header_layout::FEATURES.of_mut(&mut bytes[..])[..16].fill(0xff);
    with_mac(&mut bytes);
    assert!(parse(&bytes).is_ok_and(|header| header.check_writable().is_err()));
    let header = parse(&bytes).and_then(|header| header.authenticate(&key())).expect("readable");
    assert!(header.features.check_readable().is_ok());
    assert!(header.features.check_writable().is_err());
    assert_eq!(header.encode(&key()), bytes);
}

#[test]
fn the_header_digest_covers_every_byte() {
    let bytes = encoded();
    let mut changed = bytes.clone();
    changed[BLOCK_SIZE - 1] ^= 1;
    assert_ne!(header_digest(&bytes), header_digest(&changed));
    assert_eq!(header_digest(&bytes)[..], Sha256::digest(&bytes[..])[..]);
}

proptest! {
    #[test]
    fn headers_that_decode_encode_to_the_same_bytes(changed in edits(header_layout::FIELDS)) {
        let mut bytes = encoded();
        apply(&changed, &mut bytes[..]);
        with_mac(&mut bytes);
        match parse(&bytes) {
            Ok(header) => {
                let header = header.authenticate(&key()).expect("the right code");
                prop_assert_eq!(header.encode(&key()), bytes);
            }
            Err(_) => prop_assert!(!changed.is_empty()),
        }
    }

    #[test]
    fn no_bytes_make_a_header_panic(
        bytes in proptest::collection::vec(any::<u8>(), BLOCK_SIZE),
        known in 0..4_u8,
    ) {
        let mut bytes: Bytes = bytes.try_into().expect("a block");
        if known > 0 {
            bytes[..20].copy_from_slice(&encoded()[..20]);
        }
        if known > 1 {
            header_layout::FEATURES.of_mut(&mut bytes)[16..].fill(0);
        }
        if known > 2 {
            with_checksum(&mut bytes);
        }
        prop_assert!(parse(&bytes).and_then(|header| header.authenticate(&key())).is_err());
    }
}
