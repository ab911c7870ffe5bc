//! Keys, sealing and opening implemented only from docs/FORMAT.md and the reference crates. The engine is compared with
//! it, and forged archives are sealed with it.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{
    BLOCK_SIZE, Generation, KEY_SLOTS, PLAIN_SIZE, Position, header_layout, key_slot_layout, plain,
    sealed,
};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The bytes of a block in the file.
pub(crate) type Sealed = [u8; BLOCK_SIZE];

/// The plaintext of a block.
pub(crate) type Plain = [u8; PLAIN_SIZE];

/// Every kind of block.
pub(crate) const KINDS: [KeyKind; 3] = [KeyKind::Data, KeyKind::Registry, KeyKind::Meta];

/// The keys of one archive.
#[derive(Clone)]
pub(crate) struct Keys {
    archive: [u8; 16],
    blocks: [[u8; 32]; 3],
    header: [u8; 32],
}

impl Keys {
    /// Returns the keys of the archive with this header if one of its slots opens with this raw key.
    pub(crate) fn of_header(header: &Sealed, raw: &[u8; 32]) -> Option<Keys> {
        let archive: [u8; 16] = header_layout::ARCHIVE.array(header);
        let slots = header_layout::SLOTS.of(header).chunks_exact(key_slot_layout::SIZE);
        let mut opened = (0..KEY_SLOTS).zip(slots).filter_map(|(number, slot)| {
            let salt = key_slot_layout::SALT.of(slot);
            let commitment = derive(raw, salt, "ar7 v1 commitment");
            if key_slot_layout::COMMITMENT.of(slot) != commitment {
                return None;
            }
            let mut associated = b"ar7 slot v1".to_vec();
            associated.extend_from_slice(&archive);
            associated.push(u8::try_from(number).ok()?);
            associated.extend_from_slice(&slot[..key_slot_layout::WRAPPED.offset]);
            let (text, tag) = key_slot_layout::WRAPPED.of(slot).split_at(32);
            let key = derive(raw, salt, "ar7 v1 wrapping");
            let nonce = key_slot_layout::NONCE.array(slot);
            open(&key, &nonce, &associated, text, tag.try_into().ok()?)
        });
        let master = opened.next()?;
        let key = |info| derive(&master, &archive, info);
        let blocks = ["ar7 v1 data", "ar7 v1 registry", "ar7 v1 meta"].map(key);
        Some(Keys { archive, blocks, header: key("ar7 v1 header") })
    }

    /// Seals a plaintext for a position.
    pub(crate) fn seal(
        &self,
        kind: KeyKind,
        place: Position,
        nonce: &[u8; 24],
        plaintext: &Plain,
    ) -> Sealed {
        let mut block = [0; BLOCK_SIZE];
        sealed::NONCE.put(&mut block, nonce);
        let text = sealed::CIPHERTEXT.of_mut(&mut block);
        text.copy_from_slice(plaintext);
        let cipher = XChaCha20Poly1305::new(self.key(kind).into());
        let tag = cipher
            .encrypt_inout_detached(&XNonce::from(*nonce), &self.associated(place), text.into())
            .expect("a length that the cipher takes");
        sealed::TAG.put(&mut block, &tag);
        block
    }

    /// Opens a block that was sealed for this position. Returns `None` if it was not.
    pub(crate) fn open(&self, kind: KeyKind, place: Position, block: &Sealed) -> Option<Plain> {
        let text = sealed::CIPHERTEXT.of(block);
        let (nonce, tag) = (sealed::NONCE.array(block), sealed::TAG.array(block));
        let opened = open(self.key(kind), &nonce, &self.associated(place), text, tag)?;
        opened.try_into().ok()
    }

    /// Corrects the authentication code and checksum of a header.
    pub(crate) fn finish_header(&self, header: &mut Sealed) {
        let mut code = Hmac::<Sha256>::new_from_slice(&self.header).expect("a key of any length");
        code.update(&header[..header_layout::MAC.offset]);
        header_layout::MAC.put(header, &code.finalize().into_bytes());
        let checksum = Sha256::digest(&header[..header_layout::CHECKSUM.offset]);
        header_layout::CHECKSUM.put(header, &checksum);
    }

    fn key(&self, kind: KeyKind) -> &[u8; 32] {
        let at = KINDS.iter().position(|&known| known == kind).expect("one of three");
        &self.blocks[at]
    }

    fn associated(&self, place: Position) -> Vec<u8> {
        [&b"ar7 block v1"[..], &self.archive, &place.get().to_be_bytes()].concat()
    }
}

/// Corrects the digest of a plaintext.
pub(crate) fn finish_plain(plaintext: &mut Plain) {
    let digest = sha1(plain::DATA.of(plaintext));
    plain::DIGEST.put(plaintext, &digest);
}

/// Computes SHA-1 (FIPS 180-4).
pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

/// Returns a nonce of this generation.
pub(crate) fn nonce(generation: Generation, random: [u8; 12]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..Generation::SIZE].copy_from_slice(&generation.encode());
    nonce[Generation::SIZE..].copy_from_slice(&random);
    nonce
}

/// Returns the generation in the nonce of a sealed block.
pub(crate) fn generation(block: &Sealed) -> Generation {
    let nonce: [u8; 24] = sealed::NONCE.array(block);
    let (generation, _) = nonce.split_first_chunk().expect("longer than a generation");
    Generation::decode(*generation)
}

fn derive(key: &[u8], salt: &[u8], info: &str) -> [u8; 32] {
    let mut derived = [0; 32];
    let kdf = Hkdf::<Sha256>::new(Some(salt), key);
    kdf.expand(info.as_bytes(), &mut derived).expect("32 bytes are a length that HKDF gives");
    derived
}

fn open(
    key: &[u8; 32],
    nonce: &[u8; 24],
    associated: &[u8],
    text: &[u8],
    tag: [u8; 16],
) -> Option<Vec<u8>> {
    let mut plaintext = text.to_vec();
    let cipher = XChaCha20Poly1305::new(key.into());
    let (nonce, tag) = (XNonce::from(*nonce), Tag::from(tag));
    let text = plaintext.as_mut_slice().into();
    cipher.decrypt_inout_detached(&nonce, associated, text, &tag).ok()?;
    Some(plaintext)
}
