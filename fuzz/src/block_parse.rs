//! Decoding of a block head from arbitrary plaintext.

use ar7_engine::Error;
use ar7_engine::format::{BLOCKS_MAX, BlockHead, Digest, PLAIN_SIZE, Position, plain};

/// Decodes `bytes` as a position and the plaintext of the block there, padded with zeros.
///
/// # Panics
/// If decoding panics, returns links that the format forbids, reports an error other than damage at that position, or
/// accepts a head that encodes to different bytes.
pub fn block_parse(bytes: &[u8]) {
    let (number, plaintext) = bytes.split_at(bytes.len().min(4));
    let mut word = [0; 4];
    word[..number.len()].copy_from_slice(number);
    let position = Position::at(u32::from_be_bytes(word) % BLOCKS_MAX);
    let mut padded = vec![0; PLAIN_SIZE];
    let length = plaintext.len().min(PLAIN_SIZE);
    padded[..length].copy_from_slice(&plaintext[..length]);

    match BlockHead::decode(position, &padded) {
        Ok((head, digest)) => {
            check_head(position, &head, &digest, &padded);
        }
        Err(Error::Damaged(fault)) => assert_eq!(fault.position, Some(position)),
        Err(other) => panic!("a damaged block is reported as: {other}"),
    }
}

/// The oracle: checks that `head` and `digest` match `plaintext`.
fn check_head(position: Position, head: &BlockHead, digest: &Digest, plaintext: &[u8]) {
    assert_ne!(head.previous, Some(position), "a block is its own previous");
    assert_ne!(head.next, Some(position), "a block is its own next");
    let mut again = vec![0xa5; plain::DATA.offset];
    head.encode(digest, &mut again);
    assert_eq!(again, plaintext[..plain::DATA.offset], "the head encodes to other bytes");
}

#[cfg(test)]
mod tests {
    //! Invariant: `block_parse` returns for all inputs.

    use super::{BlockHead, Position, block_parse, check_head, plain};
    use crate::Random;

    const CASES: usize = 20_000;

    #[test]
    fn any_bytes_are_accepted_or_rejected() {
        let mut random = Random::new(0x0061_7237);
        for case in 0..CASES {
            let mut bytes = vec![0; 4 + plain::DATA.offset];
            random.fill(&mut bytes);
            // Valid links are rare among random words, so most cases get some.
            for link in [plain::PREVIOUS, plain::NEXT] {
                let value = match random.below(5) {
                    0 => (-1_i32).to_be_bytes(),
                    1 => i32::MAX.to_be_bytes(),
                    2 => [bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]],
                    3 => [0, 0, 0, 9],
                    _ => continue,
                };
                link.put(&mut bytes[4..], &value);
            }
            bytes.truncate(if case % 16 == 0 { case % 60 } else { bytes.len() });
            block_parse(&bytes);
            assert!(bytes.len() <= 4 + plain::DATA.offset);
        }
    }

    #[test]
    #[should_panic(expected = "encodes to other bytes")]
    fn a_lost_byte_is_detected() {
        let position = Position::at(9);
        let mut plaintext = [0; 48];
        let (head, digest) = BlockHead::decode(position, &plaintext).unwrap();
        plaintext[47] = 1;
        check_head(position, &head, &digest, &plaintext);
    }

    #[test]
    #[should_panic(expected = "its own next")]
    fn a_block_that_links_to_itself_is_detected() {
        let position = Position::at(9);
        let head = BlockHead { next: Some(position), ..BlockHead::default() };
        check_head(position, &head, &[0; 20], &[0; 48]);
    }
}
