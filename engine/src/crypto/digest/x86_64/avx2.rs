//! Eight messages at once, in vectors of 256 bits.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set_epi64x, _mm256_set1_epi32, _mm256_shuffle_epi8,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::padding::Tail;
use super::rounds::INITIAL;
use super::{BLOCK, Digest, Way, word_digests};

/// Messages at once.
pub(super) const LANES: usize = 8;

/// Half a block, the content of one vector.
const HALF: usize = BLOCK / 2;

/// Returns this implementation, if the processor has AVX2.
pub(super) fn detect() -> Option<Way<LANES>> {
    let has = is_x86_feature_detected!("avx2");
    // SAFETY: the function needs AVX2, and is returned only if it was detected.
    has.then_some(|messages| unsafe { digest(messages) })
}

#[target_feature(enable = "avx2")]
fn digest(messages: &[&[u8]; LANES]) -> [Digest; LANES] {
    let length = messages[0].len();
    assert!(messages.iter().all(|message| message.len() == length), "messages of one length");
    let parts = messages.map(|message| message.as_chunks::<BLOCK>());
    let mut state = INITIAL.map(|word| splat(word));
    for at in 0..length / BLOCK {
        compress(&mut state, parts.each_ref().map(|(whole, _)| &whole[at]));
    }
    let tails = parts.map(|(_, rest)| Tail::new(rest, length));
    for at in 0..tails[0].blocks().len() {
        compress(&mut state, tails.each_ref().map(|tail| &tail.blocks()[at]));
    }
    word_digests(&state.map(|vector| store(vector)))
}

/// Processes one block of each message.
#[target_feature(enable = "avx2")]
#[inline]
fn compress(state: &mut [__m256i; 5], blocks: [&[u8; BLOCK]; LANES]) {
    let halves = blocks.map(|block| block.as_chunks::<HALF>().0);
    let mut words = [splat(0); 16];
    words[..8].copy_from_slice(&transposed(&halves.map(|halves| load(&halves[0]))));
    words[8..].copy_from_slice(&transposed(&halves.map(|halves| load(&halves[1]))));
    rounds!(state, words);
}

/// Word `i` of half block `j` becomes word `j` of vector `i`.
#[target_feature(enable = "avx2")]
#[inline]
fn transposed(rows: &[__m256i; 8]) -> [__m256i; 8] {
    let mut pairs = *rows;
    for at in (0..8).step_by(2) {
        pairs[at] = _mm256_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm256_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Vector 4 * i + j: in each half h, word 4 * h + j of the half blocks 4 * i to 4 * i + 3.
    let mut fours = pairs;
    for at in (0..8).step_by(4) {
        fours[at] = _mm256_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm256_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm256_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm256_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    let mut columns = fours;
    for at in 0..4 {
        columns[at] = _mm256_permute2x128_si256::<0x20>(fours[at], fours[at + 4]);
        columns[at + 4] = _mm256_permute2x128_si256::<0x31>(fours[at], fours[at + 4]);
    }
    columns
}

/// Loads the 8 words of half a block, converted from big-endian.
#[target_feature(enable = "avx2")]
#[inline]
fn load(half: &[u8; HALF]) -> __m256i {
    const LOW: i64 = 0x0405_0607_0001_0203;
    const HIGH: i64 = 0x0c0d_0e0f_0809_0a0b;
    // SAFETY: 32 bytes are read from an array of 32 bytes; this load needs no alignment.
    let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    _mm256_shuffle_epi8(bytes, _mm256_set_epi64x(HIGH, LOW, HIGH, LOW))
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(vector: __m256i) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: 32 bytes are written to an array of 8 words of 4 bytes; this store needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}

#[target_feature(enable = "avx2")]
#[inline]
fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

#[target_feature(enable = "avx2")]
#[inline]
fn add(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(a, b)
}

#[target_feature(enable = "avx2")]
#[inline]
fn rotate<const LEFT: i32, const RIGHT: i32>(a: __m256i) -> __m256i {
    const { assert!(LEFT + RIGHT == 32, "a rotation") };
    _mm256_or_si256(_mm256_slli_epi32::<LEFT>(a), _mm256_srli_epi32::<RIGHT>(a))
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor3(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor4(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d))
}

/// Takes the bits of `b` where `a` has ones, and those of `c` where it has zeros.
#[target_feature(enable = "avx2")]
#[inline]
fn choose(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(c, _mm256_and_si256(a, _mm256_xor_si256(b, c)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn majority(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    let differ = _mm256_xor_si256(a, b);
    _mm256_xor_si256(_mm256_and_si256(differ, _mm256_xor_si256(b, c)), b)
}
