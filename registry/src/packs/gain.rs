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

/// Returns whether to pack a file of this length. `read` fills bytes with its beginning, and returns their number.
pub(crate) fn should_pack(
    length: u64,
    level: i32,
    read: impl FnOnce(&mut [u8]) -> Result<usize>,
) -> Result<bool> {
    if length <= SMALL_BYTES {
        return Ok(length > 0);
    }
    let most = usize::try_from(length).unwrap_or(usize::MAX).min(BEGINNING_BYTES);
    let mut beginning = Zeroizing::new(vec![0; most]);
    let read = read(&mut beginning)?;
    Ok(gains(&beginning[..read.min(most)], level))
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
    // Less than a sixteenth is not worth the time of decompressing.
    after < before - before / 16
}
