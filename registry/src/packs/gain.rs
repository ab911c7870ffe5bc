//! Whether to pack content, judged by samples of its beginning.

use zeroize::Zeroizing;

use super::frame::compressed_len;
use crate::error::Result;

/// A file of at most this length is packed whether it becomes smaller or not: it shares blocks.
const SMALL_BYTES: u64 = 64 << 10;

/// Length in bytes of a sample, and the number of samples that are compressed to judge a long file.
const SAMPLE_BYTES: usize = 64 << 10;
const SAMPLES: usize = 3;

/// Length of the beginning that the samples are taken from, in bytes.
pub const BEGINNING_BYTES: usize = 1 << 20;

/// Distance in bytes of the places where a long file is judged again if its beginning does not become smaller, and their
/// greatest number: a longer file has them farther apart.
const RETRY_BYTES: u64 = 64 << 20;
const RETRIES_MAX: u64 = 64;

/// Returns whether to pack a file of this length. `read` fills bytes from an offset on, at most to the end, and returns
/// their number.
pub(crate) fn should_pack(
    length: u64,
    level: i32,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<usize>,
) -> Result<bool> {
    if length <= SMALL_BYTES {
        return Ok(length > 0);
    }
    let most = usize::try_from(length).unwrap_or(usize::MAX).min(BEGINNING_BYTES);
    let mut beginning = Zeroizing::new(vec![0; most]);
    let found = read(0, &mut beginning)?;
    Ok(gains(&beginning[..found.min(most)], level) || gains_later(length, level, read)?)
}

/// Returns whether content that begins with these bytes becomes smaller with a level of Zstandard.
pub fn gains(beginning: &[u8], level: i32) -> bool {
    let last = beginning.len().saturating_sub(SAMPLE_BYTES);
    let samples = (0..SAMPLES).map(|number| {
        let rest = &beginning[last * number / (SAMPLES - 1)..];
        &rest[..rest.len().min(SAMPLE_BYTES)]
    });
    let (before, after) = samples.fold((0, 0), |(before, after), sample| {
        (before + sample.len(), after + compressed_len(sample, level))
    });
    is_worth(before, after)
}

/// Returns whether the rest of a file of this length becomes smaller, judged by a sample each 64 MiB or more. A file is
/// packed as a whole or not at all, so what begins as ciphertext or media may be worth it all the same.
///
/// `read` fills bytes from an offset on, at most to the end, and returns their number.
pub fn gains_later<E>(
    length: u64,
    level: i32,
    mut read: impl FnMut(u64, &mut [u8]) -> std::result::Result<usize, E>,
) -> std::result::Result<bool, E> {
    let step = RETRY_BYTES.max(length / RETRIES_MAX);
    let mut sample = Zeroizing::new(vec![0; SAMPLE_BYTES]);
    let (mut at, mut before, mut after) = (step, 0, 0);
    while at < length {
        let found = read(at, &mut sample)?.min(SAMPLE_BYTES);
        before += found;
        after += compressed_len(&sample[..found], level);
        at = at.saturating_add(step);
    }
    Ok(is_worth(before, after))
}

/// Returns whether a gain is worth the time of decompressing: at least a sixteenth.
fn is_worth(before: usize, after: usize) -> bool {
    after < before - before / 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packs::testing::noise;

    const GIB: u64 = 1 << 30;

    /// Returns whether to pack a file of which the bytes before some offset do not compress, and the places that are read.
    fn judged(length: u64, noise_until: u64) -> (bool, Vec<u64>) {
        let mut places = Vec::new();
        let packs = should_pack(length, 3, |offset, bytes| {
            places.push(offset);
            bytes.fill(b'a');
            if offset < noise_until {
                bytes.copy_from_slice(&noise(offset, bytes.len()));
            }
            Ok(bytes.len())
        });
        (packs.unwrap(), places)
    }

    #[test]
    fn a_long_file_is_judged_again_each_64_mib_and_not_more_often_than_64_times() {
        let count = |length, noise_until| {
            let (packs, places) = judged(length, noise_until);
            (packs, places.len())
        };
        assert_eq!(count(RETRY_BYTES, u64::MAX), (false, 1));
        assert_eq!(count(GIB, u64::MAX), (false, 16));
        assert_eq!(count(GIB, 0), (true, 1));
        assert_eq!(count(GIB, 1), (true, 16), "only the beginning does not compress");
        assert_eq!(count(GIB, GIB / 2), (true, 16));
        assert_eq!(count(GIB, GIB - 1), (false, 16));
        assert_eq!(count(GIB, GIB - RETRY_BYTES), (true, 16), "a sample of 15 is a sixteenth");
        for length in [100 * GIB, u64::MAX] {
            let (packs, places) = judged(length, u64::MAX);
            assert!(!packs && (60..=66).contains(&places.len()), "{}", places.len());
        }
    }
}
