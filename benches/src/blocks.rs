//! Sealing, opening and hashing of blocks in memory: one block at a time with `chacha20poly1305` and `sha1`, and in
//! batches like the engine. Both methods process the same bytes.

use std::hint::black_box;
use std::ops::Range;

use ar7_engine::crypto::{KeyKind, MasterKey, SealJob, Sealer, digest_batch};
use ar7_engine::format::{
    BLOCK_SIZE, BlockHead, DATA_SIZE, Data, Digest, Generation, Position, plain, sealed,
};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

/// Number of blocks to read, seal or write at a time, as in the store: 256 KiB.
const CHUNK_BLOCKS: usize = 64;

/// An operation on a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Compute the digest of its data.
    Digest,
    /// Compute the digest, then encrypt into a buffer.
    Seal,
    /// Copy into a buffer, check tag and digest, and copy the data to its destination.
    Open,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 3] = [Step::Digest, Step::Seal, Step::Open];
}

/// A method to run a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One block at a time, with `chacha20poly1305` and `sha1`.
    Reference,
    /// In batches, with the engine.
    Batch,
}

impl Way {
    /// Every method, the reference first.
    pub const ALL: [Way; 2] = [Way::Reference, Way::Batch];
}

/// The blocks to process: plaintext, and sealed with each method.
pub struct Blocks {
    sealer: Sealer,
    cipher: XChaCha20Poly1305,
    data: Vec<Data>,
    by_reference: Vec<[u8; BLOCK_SIZE]>,
    by_batch: Vec<[u8; BLOCK_SIZE]>,
}

/// The buffers of one thread.
struct Room {
    sealed: Vec<[u8; BLOCK_SIZE]>,
    opened: Vec<Data>,
}

impl Room {
    fn new() -> Room {
        let sealed = vec![[0; BLOCK_SIZE]; CHUNK_BLOCKS];
        Room { sealed, opened: vec![[0; DATA_SIZE]; CHUNK_BLOCKS] }
    }
}

impl Blocks {
    /// Creates `count` blocks.
    ///
    /// # Panics
    /// If the system provides no random bytes.
    pub fn new(count: usize) -> Blocks {
        let master = MasterKey::generate().expect("random bytes");
        let mut blocks = Blocks {
            sealer: Sealer::new(&master, Uuid::from_u128(7)),
            cipher: XChaCha20Poly1305::new(&[9; 32].into()),
            data: (0..count).map(|number| [number.to_le_bytes()[0]; DATA_SIZE]).collect(),
            by_reference: Vec::new(),
            by_batch: Vec::new(),
        };
        let mut room = Room::new();
        let (mut by_reference, mut by_batch) = (Vec::new(), Vec::new());
        for chunk in chunks(0..count) {
            blocks.seal_by_reference(chunk.clone(), &mut room);
            by_reference.extend_from_slice(&room.sealed[..chunk.len()]);
            blocks.seal_by_batch(chunk.clone(), &mut room);
            by_batch.extend_from_slice(&room.sealed[..chunk.len()]);
        }
        (blocks.by_reference, blocks.by_batch) = (by_reference, by_batch);
        blocks
    }

    /// Returns the number of bytes of data in the blocks.
    pub fn data_bytes(&self) -> usize {
        self.data.len() * DATA_SIZE
    }

    /// Runs a step on every block, with `threads` threads.
    ///
    /// # Panics
    /// If a block does not open, or a thread fails.
    pub fn run(&self, step: Step, way: Way, threads: usize) {
        if threads <= 1 {
            return self.run_part(step, way, 0..self.data.len());
        }
        let share = self.data.len().div_ceil(threads);
        std::thread::scope(|scope| {
            for start in (0..self.data.len()).step_by(share) {
                let part = start..self.data.len().min(start + share);
                scope.spawn(move || self.run_part(step, way, part));
            }
        });
    }

    fn run_part(&self, step: Step, way: Way, part: Range<usize>) {
        let mut room = Room::new();
        for chunk in chunks(part) {
            match (step, way) {
                (Step::Digest, Way::Reference) => self.digest_by_reference(chunk),
                (Step::Digest, Way::Batch) => self.digest_by_batch(chunk),
                (Step::Seal, Way::Reference) => self.seal_by_reference(chunk, &mut room),
                (Step::Seal, Way::Batch) => self.seal_by_batch(chunk, &mut room),
                (Step::Open, Way::Reference) => self.open_by_reference(chunk, &mut room),
                (Step::Open, Way::Batch) => self.open_by_batch(chunk, &mut room),
            }
            black_box(&mut room);
        }
    }

    fn digest_by_reference(&self, chunk: Range<usize>) {
        for data in &self.data[chunk] {
            let digest: Digest = Sha1::digest(data).into();
            black_box(digest);
        }
    }

    fn digest_by_batch(&self, chunk: Range<usize>) {
        let mut blocks = [&self.data[0]; CHUNK_BLOCKS];
        let mut digests = [Digest::default(); CHUNK_BLOCKS];
        for (block, data) in blocks.iter_mut().zip(&self.data[chunk.clone()]) {
            *block = data;
        }
        digest_batch(&blocks[..chunk.len()], &mut digests[..chunk.len()]);
        black_box(digests);
    }

    fn seal_by_reference(&self, chunk: Range<usize>, room: &mut Room) {
        for (number, block) in chunk.zip(&mut room.sealed) {
            let digest: Digest = Sha1::digest(self.data[number]).into();
            // A constructed nonce leaves the cost of a random generator out of the reference.
            let mut nonce = [0; 24];
            nonce[16..].copy_from_slice(&number.to_le_bytes());
            sealed::NONCE.put(block, &nonce);
            let plaintext = sealed::CIPHERTEXT.of_mut(block);
            BlockHead::default().encode(&digest, plaintext);
            plain::DATA.put(plaintext, &self.data[number]);
            let tag = self
                .cipher
                .encrypt_inout_detached(&XNonce::from(nonce), &associated(number), plaintext.into())
                .expect("sealed");
            sealed::TAG.put(block, &tag);
        }
    }

    fn seal_by_batch(&self, chunk: Range<usize>, room: &mut Room) {
        let count = chunk.len();
        let jobs: [SealJob<'_>; CHUNK_BLOCKS] = std::array::from_fn(|within| {
            let number = (chunk.start + within).min(chunk.end - 1);
            let (position, data) = (position(number), &self.data[number]);
            SealJob { position, head: BlockHead::default(), data }
        });
        let sealed = room.sealed[..count].as_flattened_mut();
        self.sealer
            .seal_batch(KeyKind::Data, Generation::default(), &jobs[..count], sealed)
            .expect("sealed");
    }

    fn open_by_reference(&self, chunk: Range<usize>, room: &mut Room) {
        let [bytes, ..] = &mut room.sealed[..] else { return };
        for (number, data) in chunk.zip(&mut room.opened) {
            bytes.copy_from_slice(&self.by_reference[number]);
            let nonce: [u8; 24] = sealed::NONCE.array(bytes);
            let tag: [u8; 16] = sealed::TAG.array(bytes);
            let text = sealed::CIPHERTEXT.of_mut(bytes);
            let associated = associated(number);
            self.cipher
                .decrypt_inout_detached(&nonce.into(), &associated, text.into(), &Tag::from(tag))
                .expect("opens");
            let plaintext = sealed::CIPHERTEXT.of(bytes);
            let (_, expected) = BlockHead::decode(position(number), plaintext).expect("a head");
            let found: Digest = Sha1::digest(plain::DATA.of(plaintext)).into();
            assert_eq!(found, expected, "the digest");
            data.copy_from_slice(plain::DATA.of(plaintext));
        }
    }

    fn open_by_batch(&self, chunk: Range<usize>, room: &mut Room) {
        let count = chunk.len();
        let bytes = &mut room.sealed[..count];
        bytes.copy_from_slice(&self.by_batch[chunk.clone()]);
        let mut opened = [false; CHUNK_BLOCKS];
        let positions = chunk.map(position);
        let flat = bytes.as_flattened_mut();
        self.sealer.open_batch(KeyKind::Data, positions, flat, &mut opened[..count]);
        assert!(opened[..count].iter().all(|opened| *opened), "every block opens");
        for (bytes, data) in bytes.iter().zip(&mut room.opened) {
            data.copy_from_slice(plain::DATA.of(sealed::CIPHERTEXT.of(bytes)));
        }
    }
}

fn chunks(part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = part.end;
    part.step_by(CHUNK_BLOCKS).map(move |start| start..end.min(start + CHUNK_BLOCKS))
}

fn position(number: usize) -> Position {
    Position::at(u32::try_from(number + 8).expect("a small position"))
}

/// Returns associated data of the same length as a block's.
fn associated(number: usize) -> [u8; 32] {
    let mut associated = [5; 32];
    associated[28..].copy_from_slice(&position(number).get().to_be_bytes());
    associated
}
