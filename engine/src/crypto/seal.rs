//! Sealing and opening blocks.

use std::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::keys::{KeyKind, MasterKey};
use super::nonce::{Nonce, NonceSource};
use crate::error::{Check, Error, Result, Value};
use crate::format::{
    BLOCK_SIZE, BlockHead, Data, Digest, Generation, PLAIN_SIZE, Position, plain, sealed,
};

/// First part of the associated data of every block.
const FORMAT_TAG: &[u8; 12] = b"ar7 block v1";

/// Length of the associated data: format tag, archive id, position.
const ASSOCIATED_SIZE: usize = FORMAT_TAG.len() + 16 + 4;

/// A block to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct SealJob<'a> {
    /// Place for which it is sealed.
    pub position: Position,
    /// Links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: &'a Data,
}

/// A block that was opened in a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// Version of the block.
    pub generation: Generation,
    /// Links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: &'a Data,
}

/// Seals and opens the blocks of one archive.
#[derive(Clone)]
pub struct Sealer {
    /// A cipher per kind; each zeroizes its key when it is dropped.
    ciphers: [XChaCha20Poly1305; KeyKind::ALL.len()],
    archive: Uuid,
}

impl Sealer {
    /// Derives the keys of an archive.
    pub fn new(master: &MasterKey, archive: Uuid) -> Sealer {
        let ciphers = KeyKind::ALL.map(|kind| {
            let key = master.derive(archive, kind.purpose());
            XChaCha20Poly1305::new((&*key).into())
        });
        Sealer { ciphers, archive }
    }

    /// Seals blocks one after another into `bytes`, which has room for exactly so many. The caller divides large
    /// batches among threads; each call draws its nonces from a source of its own.
    ///
    /// # Panics
    /// If `bytes` has not the length of the batch, which is a bug of the caller.
    pub fn seal_batch(
        &self,
        kind: KeyKind,
        generation: Generation,
        jobs: &[SealJob<'_>],
        bytes: &mut [u8],
    ) -> Result<()> {
        assert_eq!(bytes.len(), jobs.len() * BLOCK_SIZE, "room for the batch");
        let mut nonces = NonceSource::new(generation)?;
        for (job, block) in jobs.iter().zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            self.seal(kind, job, &nonces.draw(), block);
        }
        Ok(())
    }

    fn seal(&self, kind: KeyKind, job: &SealJob<'_>, nonce: &Nonce, block: &mut [u8]) {
        sealed::NONCE.put(block, &nonce.0);
        let plaintext = sealed::CIPHERTEXT.of_mut(block);
        // The digest is taken of the bytes that the caller gave, before they are copied: a fault of
        // the memory in between shows when the block is read.
        job.head.encode(&digest(job.data), plaintext);
        plain::DATA.put(plaintext, job.data);
        let tag = self.ciphers[kind.index()]
            .encrypt_inout_detached(
                &XNonce::from(nonce.0),
                &self.associated_data(job.position),
                plaintext.into(),
            )
            .expect("4056 bytes are a length that the cipher takes");
        sealed::TAG.put(block, &tag);
    }

    /// Opens the block in `bytes`, which was read at `position`. The bytes are the caller's own copy: nobody else
    /// changes them between the check and the use. On failure they are of no use.
    pub fn open_in_place<'a>(
        &self,
        kind: KeyKind,
        position: Position,
        bytes: &'a mut [u8; BLOCK_SIZE],
    ) -> Result<Opened<'a>> {
        let nonce: [u8; 24] = sealed::NONCE.array(bytes);
        let tag: [u8; 16] = sealed::TAG.array(bytes);
        self.ciphers[kind.index()]
            .decrypt_inout_detached(
                &XNonce::from(nonce),
                &self.associated_data(position),
                sealed::CIPHERTEXT.of_mut(bytes).into(),
                &Tag::from(tag),
            )
            .map_err(|_| {
                Error::damaged(position, Check::Tag, "a block sealed for this place", "another")
            })?;
        let plaintext = sealed::CIPHERTEXT.of(bytes);
        let (head, expected) = BlockHead::decode(position, plaintext)?;
        let data: &Data = plain::DATA.of(plaintext).try_into().expect("the data's length");
        let found = digest(data);
        if !bool::from(expected.ct_eq(&found)) {
            let (expected, found) = (expected.to_vec(), found.to_vec());
            return Err(Error::damaged(
                position,
                Check::Digest,
                Value::Bytes(expected),
                Value::Bytes(found),
            ));
        }
        let mut generation = [0; Generation::SIZE];
        generation.copy_from_slice(&nonce[..Generation::SIZE]);
        Ok(Opened { generation: Generation::decode(generation), head, data })
    }

    fn associated_data(&self, position: Position) -> [u8; ASSOCIATED_SIZE] {
        let mut data = [0; ASSOCIATED_SIZE];
        data[..12].copy_from_slice(FORMAT_TAG);
        data[12..28].copy_from_slice(self.archive.as_bytes());
        data[28..].copy_from_slice(&position.get().to_be_bytes());
        data
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sealer").field("archive", &self.archive).finish_non_exhaustive()
    }
}

/// SHA-1 (FIPS 180-4) of the data of a block.
pub fn digest(data: &Data) -> Digest {
    Sha1::digest(data).into()
}

const _: () = assert!(sealed::CIPHERTEXT.length == PLAIN_SIZE);
