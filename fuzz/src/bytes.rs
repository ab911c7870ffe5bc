//! Conversions between arbitrary bytes and structures.

use ar7_engine::Error;

use crate::Random;

/// Returns the first `N` bytes, padded with zeros.
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

/// The oracle of every decoder. Accepted bytes must encode to themselves again; rejected bytes must be reported as
/// damage, tampering or a newer format. Returns whether the bytes were accepted.
pub(crate) fn check_decoded(read: &[u8], encoded: Result<impl AsRef<[u8]>, Error>) -> bool {
    match encoded {
        Ok(again) => {
            let again = again.as_ref();
            let differs = again.iter().zip(read).position(|(again, read)| again != read);
            assert_eq!(differs, None, "an accepted value encodes to other bytes");
            assert_eq!(again.len(), read.len(), "an accepted value encodes to another length");
            true
        }
        Err(Error::Damaged(_) | Error::Tampered(_) | Error::NewerFormat { .. }) => false,
        Err(other) => panic!("invalid bytes are reported as: {other}"),
    }
}

/// Returns the engine's error in an error of the registry. Decoding a record returns no other error.
pub(crate) fn engine_error(error: ar7_registry::Error) -> Error {
    match error {
        ar7_registry::Error::Engine(error) => error,
        other => panic!("an invalid record is reported as: {other}"),
    }
}

/// Changes a few bytes, bits or words, most of them near earlier changes, because fields are adjacent.
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

/// Passes mutations of a valid encoding to an oracle. Both outcomes must occur, otherwise the test would prove nothing.
#[cfg(test)]
pub(crate) fn check_mutations(valid: &[u8], seed: u64, oracle: impl Fn(&[u8]) -> bool) {
    const CASES: u32 = 20_000;
    assert!(oracle(valid), "the initial encoding is valid");
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
    fn different_bytes_are_detected() {
        check_decoded(b"one", Ok(b"two"));
    }

    #[test]
    #[should_panic(expected = "reported as: opened for reading only")]
    fn unexpected_errors_are_detected() {
        check_decoded(b"one", Err::<[u8; 3], _>(Error::ReadOnly));
    }

    #[test]
    #[should_panic(expected = "20000 of 20000 accepted")]
    fn a_test_that_rejects_nothing_is_detected() {
        check_mutations(b"anything", 1, |_| true);
    }

    #[test]
    fn bytes_are_padded_and_truncated() {
        assert_eq!(padded::<2>(&[1]), [1, 0]);
        assert_eq!(padded::<2>(&[1, 2, 3]), [1, 2]);
        assert_eq!(split::<2>(&[1, 2, 3]), ([1, 2], &[3][..]));
    }
}
