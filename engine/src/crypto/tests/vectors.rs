//! Known answers, of the standards and of this format. The answers of this format were computed with Python's
//! `cryptography` package and an `HChaCha20` written from the draft, which share no code with this program.

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{ARCHIVE, hex, master};
use crate::crypto::nonce::Nonce;
use crate::crypto::{
    HeaderKey, KeyKind, Passphrase, RawKey, SealJob, Sealer, Secret, digest, unwrap_master_key,
};
use crate::format::{
    BLOCK_SIZE, BlockHead, BlockIndex, DATA_SIZE, Data, KeySlot, Position, key_slot_layout,
};

/// draft-irtf-cfrg-xchacha-03, A.3.1
#[test]
fn xchacha20_poly1305() {
    let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).expect("below 32"));
    let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + u8::try_from(at).expect("below 24"));
    let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one \
        tip for the future, sunscreen would be it."
        .to_vec();
    let tag = XChaCha20Poly1305::new(&key.into())
        .encrypt_inout_detached(
            &XNonce::from(nonce),
            &hex("50515253c0c1c2c3c4c5c6c7"),
            text.as_mut_slice().into(),
        )
        .expect("a short text");
    let expected = hex("
        bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
        731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
        2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9
        21f9664c97637da9768812f615c68b13b52e
        ");
    assert_eq!(text, expected);
    assert_eq!(tag[..], hex("c0875924c1c7987947deafd8780acf49"));
}

/// RFC 5869, A.1
#[test]
fn hkdf_sha256() {
    let mut key = [0; 42];
    Hkdf::<Sha256>::new(Some(&hex("000102030405060708090a0b0c")), &[0x0b; 22])
        .expand(&hex("f0f1f2f3f4f5f6f7f8f9"), &mut key)
        .expect("42 bytes");
    let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf\
        34007208d5b887185865";
    assert_eq!(key[..], hex(expected));
}

/// RFC 4231, 4.3
#[test]
fn hmac_sha256() {
    let mut hmac = Hmac::<Sha256>::new_from_slice(b"Jefe").expect("any length");
    hmac.update(b"what do ya want for nothing?");
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hmac.finalize().into_bytes()[..], hex(expected));
}

/// RFC 9106, 5.3
#[test]
fn argon2id() {
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(AssociatedData::new(&[4; 12]).expect("12 bytes"))
        .build()
        .expect("costs");
    let mut key = [0; 32];
    Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params)
        .expect("a secret")
        .hash_password_into(&[1; 32], &[2; 16], &mut key)
        .expect("a key");
    let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
    assert_eq!(key[..], hex(expected));
}

#[test]
fn keys_are_derived_from_master_key_and_archive() {
    let expected = [
        ("ar7 v1 data", "08bcb078fb5c2fb79b2e3dc59cdbb71c1f62ee045a7baac6db3cd28d8f5d2590"),
        ("ar7 v1 registry", "07df311204066c31f4f318436eb4880f3e3075b67fa0338515207368830e73a4"),
        ("ar7 v1 meta", "1de0df4c6fef7bffdb7df4d3ec6d6a04109e01eaa580cd70b476761709100e0a"),
        ("ar7 v1 header", "83605bc2fb3b8cf09b8c657864d75a06ca9a78b98d06393ec3169b7f9b21f510"),
    ];
    for (purpose, key) in expected {
        assert_eq!(master().derive(ARCHIVE, purpose).bytes(), hex(key), "{purpose}");
        assert_ne!(master().derive(Uuid::nil(), purpose).bytes(), hex(key), "{purpose}");
    }
    let key = HeaderKey::derive(&master(), ARCHIVE);
    let mac = "610c3b4ab3af972a5bf935cf57f9581cb21dcd7df1063770d9504841e1bb131e";
    assert_eq!(key.mac(b"a header")[..], hex(mac));
}

fn data() -> Data {
    std::array::from_fn(|at| u8::try_from(at % 251).expect("below 251"))
}

#[test]
fn digests_are_sha_1() {
    assert_eq!(digest(&[0; DATA_SIZE])[..], hex("a6ba8335ce3bd9b6b72c30c5558c7d834fb5bb36"));
    assert_eq!(digest(&data())[..], hex("2bc2a0a31d9a6d1e545429c586f96f468671adca"));
}

#[test]
fn sealed_blocks_match_the_format() {
    let sealer = Sealer::new(&master(), ARCHIVE);
    let head = BlockHead {
        previous: Some(Position::at(41)),
        next: None,
        index: BlockIndex(7),
        stream: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    };
    let data = data();
    let job = SealJob { position: Position::at(42), head, data: &data };
    let nonce = hex("000000010000000200000003a0a1a2a3a4a5a6a7a8a9aaab");
    let nonce = Nonce(nonce.try_into().expect("24 bytes"));
    let expected = [
        (KeyKind::Data, "1c583692da79c7853e1660c87dea6eb7fa6b55c1cea1e0eb90d969c7548ef7c1"),
        (KeyKind::Registry, "bc0474129e02ea7af0368303e5608232b919e69e5a70280e979d8ceaf0311f34"),
        (KeyKind::Meta, "c6229f1f638e7937a5f4424474d995526b291ce821f9602ed8853c4c60fb17fb"),
    ];
    for (kind, sha_256) in expected {
        let mut block = [0; BLOCK_SIZE];
        sealer.seal(kind, &job, &digest(&data), &nonce, &mut block);
        assert_eq!(Sha256::digest(block)[..], hex(sha_256), "{kind:?}");
    }
}

fn unwrap(encoded: &str, number: usize, secret: &Secret) {
    let encoded: [u8; key_slot_layout::SIZE] = hex(encoded).try_into().expect("256 bytes");
    let slot = KeySlot::decode(Position::at(0), &encoded).expect("a slot");
    assert_eq!(slot.encode(), encoded);
    let mut slots = std::array::from_fn(|_| KeySlot::Empty);
    slots[number] = slot;
    let (found, at) = unwrap_master_key(&slots, secret, ARCHIVE).expect("the master key");
    assert_eq!((found.as_bytes(), at), (master().as_bytes(), number));
}

#[test]
fn a_raw_key_unwraps_a_slot_made_elsewhere() {
    let encoded = "
        01080000000000000000000000000000202122232425262728292a2b2c2d2e2f
        303132333435363738393a3b3c3d3e3f6b65792066696c650000000000000000
        0000000000000000000000000000000000000000000000000000000000000000
        000000000000000000000000000000003ea3a11734091d1551da4da3ac7d85da
        a96f6b6f15f945be5a7950b1bf43877f000102030405060708090a0b0c0d0e0f
        1011121314151617fb80edade41db7fe8ea9a4c9b3c6266bd80dcf2f607a6202
        8a18a372f76ae0fafc7dfb3f8662cfb437d35f0e625737ed0000000000000000
        0000000000000000000000000000000000000000000000000000000000000000
    ";
    unwrap(encoded, 3, &Secret::Key(RawKey::from_bytes([0x55; 32])));
}

#[test]
fn a_passphrase_unwraps_a_slot_made_elsewhere() {
    let encoded = "
        02050000000000400000000200000002202122232425262728292a2b2c2d2e2f
        303132333435363738393a3b3c3d3e3f4bc3a473650000000000000000000000
        0000000000000000000000000000000000000000000000000000000000000000
        0000000000000000000000000000000047b4996f571e83b672e7a0bef0040192
        8f65e93165b95c09512fb48c926c6c55000102030405060708090a0b0c0d0e0f
        1011121314151617343af55b150b2d253c4b54263a52faaf99f5c822b4edfc04
        96dee762a6c65e9137d4c8f18924833b46cb33b8d8c0ab750000000000000000
        0000000000000000000000000000000000000000000000000000000000000000
    ";
    unwrap(encoded, 5, &Secret::Passphrase(Passphrase::new(b"correct horse".to_vec())));
}
