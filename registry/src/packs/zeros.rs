//! Frames without compression, in which zeros that belong to no file take no space.
//!
//! Such a frame is a frame of Zstandard (RFC 8878, section 3.1.1) of uncompressed blocks, and of blocks that repeat one
//! byte. So every reader decodes it, and its length says nothing about the content.

use std::ops::Range;

use super::wiped::Wiped;

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// The descriptor of the header: one segment, and a content size of 8 bytes. The library writes a size below 4 GiB in
/// fewer bytes, so this tells a frame of this module from a compressed one.
const DESCRIPTOR: u8 = 0b1110_0000;

/// Maximum number of bytes that one block decodes to.
const BLOCK_MAX: usize = 128 << 10;

/// The shortest run of zeros that gets a block of its own: that takes 4 bytes, and so does the block after it.
const ZEROS_MIN: usize = 16;

/// Types of blocks.
const RAW: usize = 0;
const REPEATED: usize = 1;

/// Returns a frame of Zstandard that decodes to `plain`. The ranges of `gaps`, which are in order, take a few bytes each as
/// far as they hold zeros. Returns `None` if no gap is long enough.
pub(super) fn encode(plain: &[u8], gaps: &[Range<usize>]) -> Option<Wiped> {
    let is_zero = |gap: &&Range<usize>| plain[(*gap).clone()].iter().all(|byte| *byte == 0);
    let gaps: Vec<&Range<usize>> =
        gaps.iter().filter(|gap| gap.len() >= ZEROS_MIN).filter(is_zero).collect();
    if gaps.is_empty() {
        return None;
    }
    // At full size, because a vector that grows leaves copies of the content in memory.
    let blocks = plain.len() / BLOCK_MAX + 2 * gaps.len() + 2;
    let mut encoded = Wiped::from(Vec::with_capacity(13 + plain.len() + 4 * blocks));
    encoded.extend_from_slice(&MAGIC);
    encoded.push(DESCRIPTOR);
    encoded.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    let mut at = 0;
    for gap in gaps {
        put(&mut encoded, RAW, plain, at..gap.start);
        put(&mut encoded, REPEATED, plain, gap.clone());
        at = gap.end;
    }
    put(&mut encoded, RAW, plain, at..plain.len());
    // The last block, which is empty, and says that it is the last.
    encoded.extend_from_slice(&[1, 0, 0]);
    Some(encoded)
}

/// Returns whether a frame of Zstandard was made by [`encode`].
pub(super) fn is_plain(frame: &[u8]) -> bool {
    frame.get(MAGIC.len()) == Some(&DESCRIPTOR)
}

fn put(encoded: &mut Wiped, kind: usize, plain: &[u8], range: Range<usize>) {
    for part in plain[range].chunks(BLOCK_MAX) {
        let head = (part.len() << 3 | kind << 1).to_le_bytes();
        encoded.extend_from_slice(&head[..3]);
        encoded.extend_from_slice(if kind == RAW { part } else { &part[..1] });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packs::testing::noise;

    fn decoded(frame: &[u8]) -> Vec<u8> {
        zstd::bulk::decompress(frame, 4 << 20).unwrap()
    }

    proptest! {
        #[test]
        fn any_gaps_decode_to_zeros_and_take_a_few_bytes(
            lengths in prop::collection::vec((0_usize..300_000, 1_usize..200_000), 0..4),
            end in 0_usize..300_000,
        ) {
            let (mut plain, mut gaps, mut kept) = (Vec::new(), Vec::new(), 0);
            for (content, gap) in lengths {
                plain.extend(noise(plain.len() as u64, content));
                gaps.push(plain.len()..plain.len() + gap);
                plain.resize(plain.len() + gap, 0);
                kept += content + if gap < ZEROS_MIN { gap } else { 0 };
            }
            plain.extend(noise(7, end));
            match encode(&plain, &gaps) {
                None => prop_assert!(gaps.iter().all(|gap| gap.len() < ZEROS_MIN)),
                Some(encoded) => {
                    prop_assert!(encoded.len() <= kept + end + 80);
                    prop_assert!(is_plain(&encoded));
                    prop_assert!(decoded(&encoded) == plain);
                }
            }
        }
    }

    #[test]
    fn what_is_in_no_slice_and_is_not_zero_stays() {
        let mut plain = vec![0; 1000];
        plain[300] = 1;
        let (one, two) = (0..100, 200..900);
        assert!(decoded(&encode(&plain, &[one.clone(), two.clone()]).unwrap()) == plain);
        assert!(encode(&plain, &[two]).is_none());
        assert!(encode(&plain, &[]).is_none());
        assert!(!is_plain(&zstd::bulk::compress(&plain, 3).unwrap()));
        assert!(!is_plain(b""));
    }
}
