//! Making structures of any bytes, and any bytes of structures.

use ar7_engine::Error;

use crate::Random;

/// The first `N` bytes, padded with zeros.
pub(crate) fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let length = bytes.len().min(N);
    array[..length].copy_from_slice(&bytes[..length]);
    array
}

/// Splits off the first `N` bytes, padded with zeros.
pub(crate) fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(N));
    (padded(head), rest)
}

/// The oracle of every decoder: what it accepts encodes to what was read, and what it refuses is reported as
/// damage, tampering, or a newer format. Returns whether the bytes were accepted.
pub(crate) fn check_decoded(read: &[u8], encoded: Result<impl AsRef<[u8]>, Error>) -> bool {
    match encoded {
        Ok(again) => {
            let again = again.as_ref();
            let differs = again.iter().zip(read).position(|(again, read)| again != read);
            assert_eq!(differs, None, "what was read encodes to other bytes");
            assert_eq!(again.len(), read.len(), "what was read encodes to another length");
            true
        }
        Err(Error::Damaged(_) | Error::Tampered(_) | Error::NewerFormat { .. }) => false,
        Err(other) => panic!("bytes that make no sense are reported as: {other}"),
    }
}

/// The engine's error in one of the registry: reading a record gives no other.
pub(crate) fn engine_error(error: ar7_registry::Error) -> Error {
    match error {
        ar7_registry::Error::Engine(error) => error,
        other => panic!("a record that makes no sense is reported as: {other}"),
    }
}

/// Changes a few bytes, bits or words, most of them near those changed before: fields lie together.
pub fn mutate(bytes: &mut [u8], random: &mut Random) {
    let index = |random: &mut Random, length: usize| {
        usize::try_from(random.below(length as u64)).unwrap_or(0)
    };
    let mut at = index(random, bytes.len());
    for _ in 0..random.below(4) {
        let rest = &mut bytes[at..];
        match random.below(4) {
            0 => rest[0] ^= 1 << random.below(8),
            1 => rest[0] = [0, 1, 0x7f, 0x80, 0xff][index(random, 5)],
            2 => {
                let word = [0_u32, 1, 7, 8, 9, 0x7fff_fffe, 0x7fff_ffff, u32::MAX];
                let word = word[index(random, word.len())].to_be_bytes();
                let length = rest.len().min(word.len());
                rest[..length].copy_from_slice(&word[..length]);
            }
            _ => random.fill(&mut rest[..1]),
        }
        let near = index(random, bytes.len().min(64));
        at = if random.one_in(3) { index(random, bytes.len()) } else { (at + near) % bytes.len() };
    }
}

/// Hands mutations of a valid encoding to an oracle; both outcomes must occur, or the test tests nothing.
#[cfg(test)]
pub(crate) fn check_mutations(valid: &[u8], seed: u64, oracle: impl Fn(&[u8]) -> bool) {
    const CASES: u32 = 20_000;
    assert!(oracle(valid), "the encoding to begin with is valid");
    let mut random = Random::new(seed);
    let mut accepted = 0;
    for case in 0..CASES {
        let mut bytes = valid.to_vec();
        mutate(&mut bytes, &mut random);
        if case % 64 == 0 {
            bytes.truncate(usize::try_from(random.below(valid.len() as u64)).unwrap_or(0));
        }
        accepted += u32::from(oracle(&bytes));
    }
    assert!(accepted > CASES / 100 && accepted < CASES, "{accepted} of {CASES} accepted");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "encodes to other bytes")]
    fn other_bytes_are_noticed() {
        check_decoded(b"one", Ok(b"two"));
    }

    #[test]
    #[should_panic(expected = "reported as: opened for reading only")]
    fn other_errors_are_noticed() {
        check_decoded(b"one", Err::<[u8; 3], _>(Error::ReadOnly));
    }

    #[test]
    #[should_panic(expected = "20000 of 20000 accepted")]
    fn a_test_that_refuses_nothing_is_noticed() {
        check_mutations(b"anything", 1, |_| true);
    }

    #[test]
    fn bytes_are_padded_and_cut() {
        assert_eq!(padded::<2>(&[1]), [1, 0]);
        assert_eq!(padded::<2>(&[1, 2, 3]), [1, 2]);
        assert_eq!(split::<2>(&[1, 2, 3]), ([1, 2], &[3][..]));
    }
}
