//! Sealing and opening blocks.

use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::aead::{Cipher, NotAuthentic};
use super::digest::{LANES_MAX, digest, digest_each};
use super::keys::{KeyKind, MasterKey};
use super::nonce::{Nonce, NonceSource, generation_of};
use super::protected::Protected;
use super::stack::with_blocks;
use crate::error::{Check, Error, Result, Value};
use crate::format::{
    BLOCK_SIZE, BlockHead, Data, Digest, Generation, PLAIN_SIZE, Position, RESERVED_BLOCKS, plain,
    sealed,
};
use crate::parallel::in_pool;

/// First part of the associated data of every block.
const FORMAT_TAG: &[u8; 12] = b"ar7 block v1";

/// Blocks that one thread seals at a time, from its own nonce source.
const CHUNK_BLOCKS: usize = 64;

/// Blocks sealed or opened together, so that their digests are computed in parallel: 64 KiB, which fit in the cache.
pub const BATCH_BLOCKS: usize = LANES_MAX;

/// Length of the associated data: format tag, archive id, position.
const ASSOCIATED_SIZE: usize = FORMAT_TAG.len() + 16 + 4;

/// A block to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct SealJob<'a> {
    /// The position to seal it for.
    pub position: Position,
    /// Neighbour links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: &'a Data,
}

/// A block opened in place, in the caller's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// Version of the block.
    pub generation: Generation,
    /// Neighbour links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: &'a Data,
}

/// Seals and opens the blocks of one archive.
#[derive(Clone)]
pub struct Sealer {
    keys: Keys,
    archive: Uuid,
    /// During a rekey: the keys of the old master key, and the position from which blocks are under them.
    old: Option<(Keys, u32)>,
}

/// A key per kind.
type Keys = Arc<[Protected; KeyKind::ALL.len()]>;

impl Sealer {
    /// Derives the keys of an archive.
    pub fn new(master: &MasterKey, archive: Uuid) -> Sealer {
        let derive = |kind: KeyKind| {
            let kind = if crate::fault!(OneKeyForAllKinds) { KeyKind::Data } else { kind };
            master.derive(archive, kind.purpose())
        };
        Sealer { keys: Arc::new(KeyKind::ALL.map(derive)), archive, old: None }
    }

    /// Adds the old master key during a rekey: blocks from `watermark` on open under it. A reserved block may be
    /// under either key, so both are tried.
    #[must_use]
    pub fn with_old(self, old: &Sealer, watermark: u32) -> Sealer {
        Sealer { old: Some((Arc::clone(&old.keys), watermark)), ..self }
    }

    /// Returns a sealer with the keys of the old master key alone, during a rekey.
    pub fn old(&self) -> Option<Sealer> {
        let (keys, _) = self.old.as_ref()?;
        Some(Sealer { keys: Arc::clone(keys), archive: self.archive, old: None })
    }

    /// Returns a sealer with the keys of the new master key alone.
    #[must_use]
    pub fn new_alone(&self) -> Sealer {
        Sealer { old: None, ..self.clone() }
    }

    /// Returns the cipher of a kind, for one block. Dropping it wipes its copy of the key, so that no key stays
    /// outside the locked pages.
    fn cipher(keys: &Keys, kind: KeyKind) -> Cipher {
        Cipher::new(keys[kind.index()].key())
    }

    /// Seals `jobs` into `bytes` in order. The pool's threads share a batch of more than 64. It allocates no memory
    /// for the blocks.
    ///
    /// # Panics
    /// If the length of `bytes` is not that of the batch, a bug of the caller.
    pub fn seal_batch(
        &self,
        kind: KeyKind,
        generation: Generation,
        jobs: &[SealJob<'_>],
        bytes: &mut [u8],
    ) -> Result<()> {
        assert_eq!(bytes.len(), jobs.len() * BLOCK_SIZE, "room for the batch");
        if jobs.len() <= CHUNK_BLOCKS {
            return with_blocks(|| self.seal_chunk(kind, generation, jobs, bytes));
        }
        in_pool(|| {
            jobs.par_chunks(CHUNK_BLOCKS)
                .zip(bytes.par_chunks_mut(CHUNK_BLOCKS * BLOCK_SIZE))
                .try_for_each(|(jobs, bytes)| {
                    with_blocks(|| self.seal_chunk(kind, generation, jobs, bytes))
                })
        })
    }

    fn seal_chunk(
        &self,
        kind: KeyKind,
        generation: Generation,
        jobs: &[SealJob<'_>],
        bytes: &mut [u8],
    ) -> Result<()> {
        let mut nonces = NonceSource::new(generation)?;
        let groups = bytes.chunks_mut(BATCH_BLOCKS * BLOCK_SIZE);
        for (jobs, bytes) in jobs.chunks(BATCH_BLOCKS).zip(groups) {
            // The digests cover the caller's bytes before they are copied: a memory fault in between is
            // detected when the block is read.
            let mut digests = [Digest::default(); BATCH_BLOCKS];
            digest_each(jobs.iter().map(|job| job.data), &mut digests);
            let nonces = nonces.draw::<BATCH_BLOCKS>();
            let blocks = bytes.chunks_exact_mut(BLOCK_SIZE);
            for (((job, digest), nonce), block) in
                jobs.iter().zip(&digests).zip(&nonces).zip(blocks)
            {
                self.seal(kind, job, digest, nonce, block);
            }
        }
        Ok(())
    }

    pub(super) fn seal(
        &self,
        kind: KeyKind,
        job: &SealJob<'_>,
        digest: &Digest,
        nonce: &Nonce,
        block: &mut [u8],
    ) {
        sealed::NONCE.put(block, &nonce.0);
        let plaintext = sealed::CIPHERTEXT.of_mut(block);
        job.head.encode(digest, plaintext);
        plain::DATA.put(plaintext, job.data);
        let associated = self.associated_data(job.position);
        let tag = Sealer::cipher(&self.keys, kind).seal(&nonce.0, &associated, plaintext);
        sealed::TAG.put(block, &tag);
    }

    /// Opens the block in `bytes`, which was read at `position`. The caller must own the bytes, so that nothing
    /// changes them between the check and the use. After a failure their content is undefined.
    pub fn open_in_place<'a>(
        &self,
        kind: KeyKind,
        position: Position,
        bytes: &'a mut [u8; BLOCK_SIZE],
    ) -> Result<Opened<'a>> {
        let found = with_blocks(|| {
            self.unseal(kind, position, bytes)?;
            Ok(digest(data_in(bytes)))
        })
        .map_err(|NotAuthentic| {
            Error::damaged(position, Check::Tag, "a block sealed for this position", "other bytes")
        })?;
        let plaintext = sealed::CIPHERTEXT.of(bytes);
        let (head, expected) = BlockHead::decode(position, plaintext)?;
        let data: &Data = plain::DATA.array_ref(plaintext);
        if expected != found && !crate::fault!(DigestUnchecked) {
            let (expected, found) = (expected.to_vec(), found.to_vec());
            return Err(Error::damaged(
                position,
                Check::Digest,
                Value::Bytes(expected),
                Value::Bytes(found),
            ));
        }
        Ok(Opened { generation: generation_of(&sealed::NONCE.array(bytes)), head, data })
    }

    /// Opens consecutive blocks in `bytes`, read at `positions`, and computes the digests of up to [`BATCH_BLOCKS`]
    /// in parallel. Sets `opened` for each block that [`open_in_place`](Self::open_in_place) would open; its
    /// plaintext then replaces its ciphertext. The content of the others is undefined. It allocates no memory.
    ///
    /// # Panics
    /// If the lengths do not match, a bug of the caller.
    pub fn open_batch(
        &self,
        kind: KeyKind,
        positions: impl IntoIterator<Item = Position>,
        bytes: &mut [u8],
        opened: &mut [bool],
    ) {
        assert_eq!(bytes.len(), opened.len() * BLOCK_SIZE, "an outcome for each block");
        let (blocks, _) = bytes.as_chunks_mut::<BLOCK_SIZE>();
        let mut positions = positions.into_iter();
        let groups = blocks.chunks_mut(BATCH_BLOCKS);
        for (blocks, opened) in groups.zip(opened.chunks_mut(BATCH_BLOCKS)) {
            let mut places = [Position::at(0); BATCH_BLOCKS];
            with_blocks(|| {
                let each = blocks.iter_mut().zip(&mut *opened).zip(&mut places);
                for ((block, opened), place) in each {
                    *place = positions.next().expect("a position for each block");
                    *opened = self.unseal(kind, *place, block).is_ok();
                }
            });
            let mut digests = [Digest::default(); BATCH_BLOCKS];
            with_blocks(|| digest_each(blocks.iter().map(data_in), &mut digests));
            for (((block, opened), place), found) in
                blocks.iter().zip(opened).zip(places).zip(&digests)
            {
                let plaintext = sealed::CIPHERTEXT.of(block);
                *opened &= BlockHead::decode(place, plaintext)
                    .is_ok_and(|(_, expected)| expected == *found);
            }
        }
        assert!(positions.next().is_none(), "a block for each position");
    }

    /// Checks the tag of the block in `bytes` and decrypts it, under the master key that sealed it.
    fn unseal(
        &self,
        kind: KeyKind,
        position: Position,
        bytes: &mut [u8; BLOCK_SIZE],
    ) -> std::result::Result<(), NotAuthentic> {
        let Some((old, watermark)) = &self.old else {
            return self.unseal_under(&self.keys, kind, position, bytes);
        };
        if kind == KeyKind::Meta || position.get() < RESERVED_BLOCKS {
            let mut copy = *bytes;
            if self.unseal_under(&self.keys, kind, position, &mut copy).is_err() {
                return self.unseal_under(old, kind, position, bytes);
            }
            *bytes = copy;
            return Ok(());
        }
        let keys = if position.get() < *watermark { &self.keys } else { old };
        self.unseal_under(keys, kind, position, bytes)
    }

    fn unseal_under(
        &self,
        keys: &Keys,
        kind: KeyKind,
        position: Position,
        bytes: &mut [u8; BLOCK_SIZE],
    ) -> std::result::Result<(), NotAuthentic> {
        let nonce: [u8; 24] = sealed::NONCE.array(bytes);
        let tag: [u8; 16] = sealed::TAG.array(bytes);
        let associated = self.associated_data(position);
        let text = sealed::CIPHERTEXT.of_mut(bytes);
        Sealer::cipher(keys, kind).open(&nonce, &associated, text, &tag)
    }

    /// Reseals a data or registry block that opens under `from`, for its own position and under the same generation,
    /// so that references to it stay valid. Returns false, and leaves the bytes unchanged, if it does not open.
    pub fn reseal(
        &self,
        from: &Sealer,
        position: Position,
        bytes: &mut [u8; BLOCK_SIZE],
    ) -> Result<bool> {
        for kind in [KeyKind::Data, KeyKind::Registry] {
            let mut copy = Zeroizing::new(*bytes);
            if let Ok(opened) = from.open_in_place(kind, position, &mut copy) {
                let job = SealJob { position, head: opened.head, data: opened.data };
                let [nonce] = NonceSource::new(opened.generation)?.draw();
                with_blocks(|| self.seal(kind, &job, &digest(opened.data), &nonce, &mut bytes[..]));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether a data or registry block opens.
    pub fn opens(&self, position: Position, bytes: &[u8; BLOCK_SIZE]) -> bool {
        let kinds = [KeyKind::Data, KeyKind::Registry];
        kinds.into_iter().any(|kind| self.opens_as(kind, position, bytes))
    }

    /// Returns whether a block of this kind opens.
    pub(crate) fn opens_as(
        &self,
        kind: KeyKind,
        position: Position,
        bytes: &[u8; BLOCK_SIZE],
    ) -> bool {
        let mut copy = Zeroizing::new(*bytes);
        self.open_in_place(kind, position, &mut copy).is_ok()
    }

    fn associated_data(&self, position: Position) -> [u8; ASSOCIATED_SIZE] {
        let mut data = [0; ASSOCIATED_SIZE];
        data[..12].copy_from_slice(FORMAT_TAG);
        data[12..28].copy_from_slice(self.archive.as_bytes());
        if crate::fault!(DropThePosition) {
            return data;
        }
        let kept = if crate::fault!(PositionCutShort) { 0xffff } else { u32::MAX };
        data[28..].copy_from_slice(&(position.get() & kept).to_be_bytes());
        data
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sealer").field("archive", &self.archive).finish_non_exhaustive()
    }
}

/// Returns the data of a block that was opened in place.
fn data_in(block: &[u8; BLOCK_SIZE]) -> &Data {
    plain::DATA.array_ref(sealed::CIPHERTEXT.of(block))
}

const _: () = assert!(sealed::CIPHERTEXT.length == PLAIN_SIZE);
