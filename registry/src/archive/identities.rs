//! UUIDs of new streams: version 7 (RFC 9562), in ascending order.
//!
//! `uuid::ContextV7` does the same, but panics if the system provides no random bytes. Here that is
//! an error.

use std::time::{SystemTime, UNIX_EPOCH};

use ar7_engine::crypto::random_bytes;
use uuid::{Builder, Uuid};

use crate::error::Result;

/// Number of bits of a UUID below its version, and below its variant.
const BELOW_VERSION: u32 = 76;
const BELOW_VARIANT: u32 = 62;

/// Number of random bits: 12 between version and variant, and all below the variant.
const RANDOM_BITS: u32 = 12 + BELOW_VARIANT;

/// Issues UUIDs in ascending order, so that new records go to the right edge of their tree.
#[derive(Debug, Default)]
pub(super) struct Identities {
    last: Option<Uuid>,
    /// The time of the next identity, in milliseconds since 1970, if a test chose it.
    #[cfg(feature = "testing")]
    pub(super) time: Option<u64>,
}

impl Identities {
    /// Returns the next identity. Fails if the system provides no random bytes.
    pub(super) fn next(&mut self) -> Result<Uuid> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        #[cfg(feature = "testing")]
        let milliseconds = self.time.as_mut().map_or(milliseconds, |time| {
            let now = *time;
            *time = now.saturating_add(1);
            now
        });
        Ok(self.next_at(milliseconds, random_bytes()?))
    }

    fn next_at(&mut self, milliseconds: u64, random: [u8; 10]) -> Uuid {
        let now = Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid();
        let next = match self.last {
            // Several identities in one millisecond, or a clock that was set back: take a random
            // step above the last one.
            Some(last) if now <= last => {
                let step = u32::from_be_bytes([random[0], random[1], random[2], random[3]]);
                with_number(number_in(last).wrapping_add(u128::from(step) + 1))
            }
            _ => now,
        };
        self.last = Some(next);
        next
    }
}

/// Returns the time and random bits as one number, without version and variant.
fn number_in(identity: Uuid) -> u128 {
    let bits = identity.as_u128();
    let time = bits >> (BELOW_VERSION + 4);
    let middle = (bits >> (BELOW_VARIANT + 2)) & low_bits(12);
    (time << RANDOM_BITS) | (middle << BELOW_VARIANT) | (bits & low_bits(BELOW_VARIANT))
}

/// Returns the version-7 UUID whose time and random bits form `number`.
fn with_number(number: u128) -> Uuid {
    let time = (number >> RANDOM_BITS) & low_bits(48);
    let middle = (number >> BELOW_VARIANT) & low_bits(12);
    Uuid::from_u128(
        (time << (BELOW_VERSION + 4))
            | (7 << BELOW_VERSION)
            | (middle << (BELOW_VARIANT + 2))
            | (2 << BELOW_VARIANT)
            | (number & low_bits(BELOW_VARIANT)),
    )
}

const fn low_bits(count: u32) -> u128 {
    (1 << count) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Variant;

    use super::*;

    proptest! {
        /// For any clock and random source, each identity has version 7 and is greater than the
        /// previous one.
        #[test]
        fn identities_ascend(
            draws in prop::collection::vec(
                (0_u64..3, prop_oneof![Just([0xff; 10]), Just([0; 10]), any::<[u8; 10]>()]),
                1..40,
            ),
        ) {
            let mut identities = Identities::default();
            let mut before = Uuid::nil();
            for (milliseconds, random) in draws {
                let next = identities.next_at(milliseconds + (1 << 40), random);
                prop_assert!(next > before, "{next} after {before}");
                prop_assert_eq!((next.get_version_num(), next.get_variant()), (7, Variant::RFC4122));
                prop_assert_eq!(with_number(number_in(next)), next);
                before = next;
            }
        }
    }

    #[test]
    fn an_identity_equals_the_example_of_rfc_9562() {
        // Appendix A.6.
        let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
        let next = Identities::default().next_at(0x017f_22e2_79b0, random);
        assert_eq!(next.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }
}
