//! Sixteen messages at once, in vectors of 512 bits.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set_epi64,
    _mm512_set1_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_storeu_si512,
    _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::padding::Tail;
use super::rounds::INITIAL;
use super::{BLOCK, Digest, Way, word_digests};

/// Messages at once.
pub(super) const LANES: usize = 16;

/// Returns this implementation, if the processor has AVX-512 F and BW.
pub(super) fn detect() -> Option<Way<LANES>> {
    let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    // SAFETY: the function needs AVX-512 F and BW, and is returned only if they were detected.
    has.then_some(|messages| unsafe { digest(messages) })
}

#[target_feature(enable = "avx512f,avx512bw")]
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
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn compress(state: &mut [__m512i; 5], blocks: [&[u8; BLOCK]; LANES]) {
    let mut words = transposed(&blocks.map(|block| load(block)));
    rounds!(state, words);
}

/// Word `i` of block `j` becomes word `j` of vector `i`.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = *rows;
    for at in (0..16).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Vector 4 * i + j: in each quarter q, word 4 * q + j of the blocks 4 * i to 4 * i + 3.
    let mut fours = pairs;
    for at in (0..16).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    // It remains to transpose the quarters of the vectors j, 4 + j, 8 + j and 12 + j.
    let mut columns = fours;
    for at in 0..4 {
        let low_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[at], fours[at + 4]);
        let low_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[at], fours[at + 4]);
        let high_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[at + 8], fours[at + 12]);
        let high_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[at + 8], fours[at + 12]);
        columns[at] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_even, high_even);
        columns[at + 4] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_odd, high_odd);
        columns[at + 8] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_even, high_even);
        columns[at + 12] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_odd, high_odd);
    }
    columns
}

/// Loads the 16 words of a block, converted from big-endian.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(block: &[u8; BLOCK]) -> __m512i {
    const LOW: i64 = 0x0405_0607_0001_0203;
    const HIGH: i64 = 0x0c0d_0e0f_0809_0a0b;
    // SAFETY: 64 bytes are read from an array of 64 bytes; this load needs no alignment.
    let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    let order = _mm512_set_epi64(HIGH, LOW, HIGH, LOW, HIGH, LOW, HIGH, LOW);
    _mm512_shuffle_epi8(bytes, order)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(vector: __m512i) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: 64 bytes are written to an array of 16 words of 4 bytes; this store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}

#[target_feature(enable = "avx512f")]
#[inline]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn rotate<const LEFT: i32, const RIGHT: i32>(a: __m512i) -> __m512i {
    const { assert!(LEFT + RIGHT == 32, "a rotation") };
    _mm512_rol_epi32::<LEFT>(a)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1001_0110>(a, b, c)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn xor4(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_xor_si512(xor3(a, b, c), d)
}

/// Takes the bits of `b` where `a` has ones, and those of `c` where it has zeros.
#[target_feature(enable = "avx512f")]
#[inline]
fn choose(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1100_1010>(a, b, c)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn majority(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1110_1000>(a, b, c)
}
