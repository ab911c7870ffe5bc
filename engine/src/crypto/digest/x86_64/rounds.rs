//! The 80 rounds (FIPS 180-4, 6.1.2), written once for vectors of any width.

/// The initial hash value (FIPS 180-4, 5.3.1).
pub(super) const INITIAL: [u32; 5] =
    [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The constants (FIPS 180-4, 4.2.1), each for 20 rounds.
pub(super) const CONSTANTS: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// Runs the rounds over `$words`, 16 vectors that it overwrites, and adds the result to `$state`, 5 vectors.
///
/// The caller has these functions on vectors in scope: `splat`, `add`, `xor3`, `xor4`, `choose`, `majority`, and
/// `rotate::<LEFT, RIGHT>`. Every round is spelled out, so that the words stay in registers.
macro_rules! rounds {
    ($state:expr, $words:ident) => {{
        let mut mixed = *$state;
        let [k0, k1, k2, k3] = $crate::crypto::digest::x86_64::rounds::CONSTANTS.map(|k| splat(k));
        rounds!(@given mixed, $words, choose, k0: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        rounds!(@expanded mixed, $words, choose, k0: 16 17 18 19);
        rounds!(@expanded mixed, $words, xor3, k1: 20 21 22 23 24 25 26 27 28 29);
        rounds!(@expanded mixed, $words, xor3, k1: 30 31 32 33 34 35 36 37 38 39);
        rounds!(@expanded mixed, $words, majority, k2: 40 41 42 43 44 45 46 47 48 49);
        rounds!(@expanded mixed, $words, majority, k2: 50 51 52 53 54 55 56 57 58 59);
        rounds!(@expanded mixed, $words, xor3, k3: 60 61 62 63 64 65 66 67 68 69);
        rounds!(@expanded mixed, $words, xor3, k3: 70 71 72 73 74 75 76 77 78 79);
        for (old, new) in $state.iter_mut().zip(mixed) {
            *old = add(*old, new);
        }
    }};
    (@given $mixed:ident, $words:ident, $mix:ident, $constant:ident: $($at:literal)*) => {$(
        rounds!(@round $mixed, $mix, $constant, $words[$at]);
    )*};
    (@expanded $mixed:ident, $words:ident, $mix:ident, $constant:ident: $($at:literal)*) => {$(
        // Each word replaces the one of 16 rounds before.
        $words[$at % 16] = rotate::<1, 31>(xor4(
            $words[($at + 13) % 16],
            $words[($at + 8) % 16],
            $words[($at + 2) % 16],
            $words[$at % 16],
        ));
        rounds!(@round $mixed, $mix, $constant, $words[$at % 16]);
    )*};
    (@round $mixed:ident, $mix:ident, $constant:ident, $word:expr) => {
        let [a, b, c, d, e] = $mixed;
        let sum = add(add(e, $constant), $word);
        let sum = add(sum, add($mix(b, c, d), rotate::<5, 27>(a)));
        $mixed = [sum, a, rotate::<30, 2>(b), c, d];
    };
}
