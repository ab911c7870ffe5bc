//! Interleaved messages, with the SHA instructions. Each instruction waits for the previous one of its own message,
//! and meanwhile an out-of-order processor works on the other message.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x,
    _mm_sha1msg1_epu32, _mm_sha1msg2_epu32, _mm_sha1nexte_epu32, _mm_sha1rnds4_epu32,
    _mm_shuffle_epi8, _mm_xor_si128,
};

use super::padding::Tail;
use super::rounds::INITIAL;
use super::{BLOCK, Digest, Way, word_digests};

/// Number of interleaved messages.
pub(super) const LANES: usize = 2;

/// A quarter of a block, the content of one vector.
const QUARTER: usize = BLOCK / 4;

/// Returns this implementation, if the processor has SHA, SSSE3 and SSE4.1.
pub(super) fn detect() -> Option<Way<LANES>> {
    let has = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1");
    // SAFETY: the function needs SHA, SSSE3 and SSE4.1, and is returned only if they were detected.
    has.then_some(|messages| unsafe { digest(messages) })
}

/// The state in the layout of the instructions: the words a to d with a at the top, and e at the top of its own
/// vector.
#[derive(Clone, Copy)]
struct State {
    abcd: __m128i,
    e: __m128i,
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn digest(messages: &[&[u8]; LANES]) -> [Digest; LANES] {
    let length = messages[0].len();
    assert!(messages.iter().all(|message| message.len() == length), "messages of one length");
    let parts = messages.map(|message| message.as_chunks::<BLOCK>());
    let words = INITIAL.map(u32::cast_signed);
    let initial = State {
        abcd: _mm_set_epi32(words[0], words[1], words[2], words[3]),
        e: _mm_set_epi32(words[4], 0, 0, 0),
    };
    let mut states = [initial; LANES];
    for at in 0..length / BLOCK {
        for (state, (whole, _)) in states.iter_mut().zip(&parts) {
            compress(state, &whole[at]);
        }
    }
    for (state, (_, rest)) in states.iter_mut().zip(&parts) {
        for block in Tail::new(rest, length).blocks() {
            compress(state, block);
        }
    }
    let mut words = [[0; LANES]; 5];
    for (lane, state) in states.iter().enumerate() {
        words[0][lane] = _mm_extract_epi32::<3>(state.abcd).cast_unsigned();
        words[1][lane] = _mm_extract_epi32::<2>(state.abcd).cast_unsigned();
        words[2][lane] = _mm_extract_epi32::<1>(state.abcd).cast_unsigned();
        words[3][lane] = _mm_extract_epi32::<0>(state.abcd).cast_unsigned();
        words[4][lane] = _mm_extract_epi32::<3>(state.e).cast_unsigned();
    }
    word_digests(&words)
}

/// Processes one block of one message: 20 times four rounds (FIPS 180-4, 6.1.2).
#[target_feature(enable = "sha,ssse3,sse4.1")]
#[inline]
fn compress(state: &mut State, block: &[u8; BLOCK]) {
    let (quarters, _) = block.as_chunks::<QUARTER>();
    let mut w = [load(&quarters[0]), load(&quarters[1]), load(&quarters[2]), load(&quarters[3])];
    let before = *state;
    let mut last = before.abcd;
    let mut abcd = _mm_sha1rnds4_epu32::<0>(last, _mm_add_epi32(before.e, w[0]));
    macro_rules! four_rounds {
        ($mix:literal: $($at:literal)*) => {$(
            if $at >= 4 {
                let mixed = _mm_sha1msg1_epu32(w[$at % 4], w[($at + 1) % 4]);
                let mixed = _mm_xor_si128(mixed, w[($at + 2) % 4]);
                w[$at % 4] = _mm_sha1msg2_epu32(mixed, w[($at + 3) % 4]);
            }
            let e = _mm_sha1nexte_epu32(last, w[$at % 4]);
            (last, abcd) = (abcd, _mm_sha1rnds4_epu32::<$mix>(abcd, e));
        )*};
    }
    four_rounds!(0: 1 2 3 4);
    four_rounds!(1: 5 6 7 8 9);
    four_rounds!(2: 10 11 12 13 14);
    four_rounds!(3: 15 16 17 18 19);
    state.e = _mm_sha1nexte_epu32(last, before.e);
    state.abcd = _mm_add_epi32(abcd, before.abcd);
}

/// Loads four words of a block, converted from big-endian, the first at the top.
#[target_feature(enable = "sha,ssse3,sse4.1")]
#[inline]
fn load(quarter: &[u8; QUARTER]) -> __m128i {
    // SAFETY: 16 bytes are read from an array of 16 bytes; this load needs no alignment.
    let bytes = unsafe { _mm_loadu_si128(quarter.as_ptr().cast()) };
    _mm_shuffle_epi8(bytes, _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f))
}
