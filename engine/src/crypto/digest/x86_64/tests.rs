//! Invariants: every implementation that this machine supports computes the same digests as the `sha1` crate, for any
//! length, alignment and number of messages; the digests are those of FIPS 180-4.

use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

use super::*;

/// Number of messages in most tests, enough for every lane.
const LANES_MAX: usize = avx512::LANES;

/// Returns each supported implementation alone, none, and all together.
fn every_implementation() -> Vec<(&'static str, Ways)> {
    let (all, none) = (Ways::detect(), Ways::default());
    let alone = [
        ("16 lanes", all.sixteen.is_some(), Ways { sixteen: all.sixteen, ..none }),
        ("8 lanes", all.eight.is_some(), Ways { eight: all.eight, ..none }),
        ("pairs", all.two.is_some(), Ways { two: all.two, ..none }),
    ];
    let alone = alone.into_iter().filter(|way| way.1).map(|(name, _, way)| (name, way));
    [("one by one", none), ("all", all)].into_iter().chain(alone).collect()
}

/// Returns pseudorandom bytes, in which no two sections are alike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect()
}

#[track_caller]
fn check_every_implementation(messages: &[&[u8]]) {
    let expected: Vec<Digest> =
        messages.iter().map(|message| Sha1::digest(message).into()).collect();
    for (name, ways) in every_implementation() {
        let mut digests = vec![[0; 20]; messages.len()];
        ways.digest(messages, &mut digests);
        let length = messages.first().map_or(0, |message| message.len());
        assert!(digests == expected, "{name}: {} messages of {length} bytes", messages.len());
    }
}

#[test]
fn every_length_is_hashed() {
    let bytes = noise(8192);
    // All lengths around the first blocks and around the 4008 bytes of data: every remainder occurs in both.
    for length in (0..=260).chain(3960..=4100) {
        let messages: Vec<&[u8]> =
            (0..LANES_MAX).map(|lane| &bytes[lane * 61..][..length]).collect();
        check_every_implementation(&messages);
    }
}

#[test]
fn every_alignment_is_hashed() {
    let bytes = noise(8192);
    for shift in 0..64 {
        for length in [0, 55, 56, 63, 64, 65, 200] {
            let messages: Vec<&[u8]> =
                (0..LANES_MAX).map(|lane| &bytes[lane * 320 + shift..][..length]).collect();
            check_every_implementation(&messages);
        }
    }
}

#[test]
fn every_number_of_messages_is_hashed_in_order() {
    let bytes = noise(20_000);
    for count in 0..=50 {
        let messages: Vec<&[u8]> =
            (0..count).map(|number| &bytes[number * 300..][..300 + count]).collect();
        check_every_implementation(&messages);
    }
}

#[test]
fn every_lane_reproduces_the_examples_of_the_standard() {
    let million = vec![b'a'; 1_000_000];
    let examples: [(&[u8], [u32; 5]); 4] = [
        (b"", [0xda39_a3ee, 0x5e6b_4b0d, 0x3255_bfef, 0x9560_1890, 0xafd8_0709]),
        (b"abc", [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c, 0x9cd0_d89d]),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            [0x8498_3e44, 0x1c3b_d26e, 0xbaae_4aa1, 0xf951_29e5, 0xe546_70f1],
        ),
        (&million, [0x34aa_973c, 0xd4c4_daa4, 0xf61e_eb2b, 0xdbad_2731, 0x6534_016f]),
    ];
    for (message, expected) in examples {
        for (name, ways) in every_implementation() {
            let mut digests = [[0; 20]; LANES_MAX];
            ways.digest(&[message; LANES_MAX], &mut digests);
            for digest in digests {
                let words = digest.chunks_exact(4).map(|word| word.try_into().expect("four"));
                assert!(words.map(u32::from_be_bytes).eq(expected), "{name}");
            }
        }
    }
}

#[test]
fn messages_of_different_lengths_are_refused() {
    let bytes = [7; 200];
    let messages: [&[u8]; LANES_MAX] = std::array::from_fn(|lane| &bytes[..100 + lane]);
    for (name, ways) in every_implementation() {
        let outcome = std::panic::catch_unwind(|| {
            ways.digest(&messages, &mut [[0; 20]; LANES_MAX]);
        });
        assert_eq!(outcome.is_err(), name != "one by one", "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_messages_are_hashed(
        bytes in proptest::collection::vec(any::<u8>(), 1..6000),
        length in 0..4200_usize,
        starts in proptest::collection::vec(any::<proptest::sample::Index>(), 1..40),
    ) {
        let length = length.min(bytes.len());
        let messages: Vec<&[u8]> = starts
            .iter()
            .map(|start| &bytes[start.index(bytes.len() - length + 1)..][..length])
            .collect();
        check_every_implementation(&messages);
        prop_assert!(messages.iter().all(|message| message.len() == length));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn every_implementation_of_the_processor_is_detected() {
    let description = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = description.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|known| known == flag);
    let ways = Ways::detect();
    assert_eq!(ways.sixteen.is_some(), has("avx512f") && has("avx512bw"));
    assert_eq!(ways.eight.is_some(), has("avx2"));
    assert_eq!(ways.two.is_some(), has("sha_ni") && has("ssse3") && has("sse4_1"));
}
