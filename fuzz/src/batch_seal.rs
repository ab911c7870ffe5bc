//! Sealing of many blocks at once, on all cores and in all lanes, compared with the reference crates sealing one block
//! at a time.

use std::collections::HashSet;

use ar7_engine::crypto::{KeyKind, SealJob, Sealer, digest, digest_batch};
use ar7_engine::format::{
    BLOCK_SIZE, BLOCKS_MAX, BlockHead, BlockIndex, DATA_SIZE, Data, Generation, PLAIN_SIZE,
    Position, header_layout, plain, sealed,
};
use uuid::Uuid;

use crate::golden::goldens;
use crate::reference::{KINDS, Sealed, sha1};
use crate::unstructured::Unstructured;

/// Maximum number of blocks in a batch: more than two parallel parts, and not a multiple of the number of lanes.
const BLOCKS: usize = 150;

/// Seals a batch as `bytes` direct.
///
/// # Panics
/// If a block differs from the result of the reference crates with the same nonce, if a nonce has the wrong generation
/// or occurs twice, or if a digest differs from the reference.
pub fn batch_seal(bytes: &[u8]) {
    let mut unstructured = Unstructured::new(bytes);
    let golden = &goldens()[unstructured.below(goldens().len())];
    let kind = KINDS[unstructured.below(KINDS.len())];
    let generation = Generation::decode(unstructured.array());
    let count = unstructured.byte() % BLOCKS;
    let blocks: Vec<(Position, BlockHead, Box<Data>)> =
        (0..count).map(|_| any_block(&mut unstructured)).collect();
    let jobs: Vec<SealJob<'_>> = blocks
        .iter()
        .map(|(position, head, data)| SealJob { position: *position, head: *head, data })
        .collect();
    let archive = Uuid::from_bytes(header_layout::ARCHIVE.array(&golden.header()));
    let sealer = Sealer::new(&golden.master, archive);
    let mut bytes = vec![0; count * BLOCK_SIZE];
    sealer.seal_batch(kind, generation, &jobs, &mut bytes).expect("the system has random bytes");

    let (sealed_blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
    let mut nonces = HashSet::new();
    for (job, block) in jobs.iter().zip(sealed_blocks) {
        let nonce: [u8; 24] = sealed::NONCE.array(block);
        assert_eq!(nonce[..Generation::SIZE], generation.encode(), "the generation of the nonce");
        assert!(nonces.insert(nonce), "a nonce occurs twice");
        let again = golden.keys.seal(kind, job.position, &nonce, &plaintext_of(job));
        assert!(again == *block, "the block at {} differs from the reference", job.position);
    }
    check_digests(&blocks);
    check_opening(&sealer, kind, &jobs, &bytes);
}

fn any_block(unstructured: &mut Unstructured<'_>) -> (Position, BlockHead, Box<Data>) {
    let position = Position::at(unstructured.quad() % BLOCKS_MAX);
    let link = |raw: u32| Position::new(raw).filter(|&link| link != position);
    let head = BlockHead {
        previous: link(unstructured.quad()),
        next: link(unstructured.quad()),
        index: BlockIndex(unstructured.quad()),
        stream: Uuid::from_u64_pair(
            u64::from(unstructured.octet()),
            u64::from(unstructured.octet()),
        ),
    };
    let (first, step) = (unstructured.octet(), unstructured.octet());
    let mut data = Box::new([0; DATA_SIZE]);
    let mut byte = first;
    for place in data.iter_mut() {
        *place = byte;
        byte = byte.wrapping_add(step);
    }
    (position, head, data)
}

fn plaintext_of(job: &SealJob<'_>) -> [u8; PLAIN_SIZE] {
    let mut plaintext = [0; PLAIN_SIZE];
    job.head.encode(&sha1(job.data), &mut plaintext);
    plain::DATA.put(&mut plaintext, job.data);
    plaintext
}

fn check_digests(blocks: &[(Position, BlockHead, Box<Data>)]) {
    let data: Vec<&Data> = blocks.iter().map(|(_, _, data)| &**data).collect();
    let mut digests = vec![[0; 20]; data.len()];
    digest_batch(&data, &mut digests);
    for (data, found) in data.into_iter().zip(digests) {
        let expected = sha1(data);
        assert_eq!(found, expected, "the digest of a block in a batch");
        assert_eq!(digest(data), expected, "the digest of a single block");
    }
}

/// Checks that sealed blocks open, together and one at a time.
fn check_opening(sealer: &Sealer, kind: KeyKind, jobs: &[SealJob<'_>], bytes: &[u8]) {
    let mut together = bytes.to_vec();
    let mut opened = vec![false; jobs.len()];
    sealer.open_batch(kind, jobs.iter().map(|job| job.position), &mut together, &mut opened);
    assert!(opened.iter().all(|&opened| opened), "sealed blocks open");
    let (blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
    for (job, block) in jobs.iter().zip(blocks) {
        let mut block: Sealed = *block;
        let opened = sealer.open_in_place(kind, job.position, &mut block).expect("a sealed block");
        assert_eq!(opened.head, job.head, "the head that was sealed");
        assert!(opened.data == job.data, "the data that was sealed");
    }
}

/// Returns initial inputs: no block, a few, one lane more than a batch, and several parts.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |count: u8| {
        let mut bytes = vec![0, 1];
        bytes.extend([0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, count]);
        for number in 1..=count {
            bytes.extend([0, 0, 1, number, 0, 0, 1, number - 1, 0, 0, 1, number + 1]);
            bytes.extend([0, 0, 0, number, 1, 2, number, 3]);
        }
        bytes
    };
    [0, 3, 17, 70].map(seed).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_batch_equals_its_blocks_sealed_one_at_a_time() {
        let mut random = Random::new(0x7365_616c);
        let mut largest = 0;
        for _ in 0..60 {
            let mut bytes = [0; 1200];
            random.fill(&mut bytes);
            largest = largest.max(usize::from(bytes[14]) % BLOCKS);
            batch_seal(&bytes);
        }
        for seed in seeds() {
            batch_seal(&seed);
        }
        assert!(largest > 128, "at most {largest} blocks");
    }
}
