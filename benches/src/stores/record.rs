//! The records for the stores.

use ar7_engine::format::{Generation, Position, StoredStream, StreamLayout, StreamRecord};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use uuid::{Builder, Uuid};

/// Time of the first record in milliseconds since 1970.
const FIRST_MILLISECONDS: u64 = 1_700_000_000_000;

/// Size in bytes of the value that the other stores keep under the identity: the end of the record as the registry
/// encodes it, which is five bytes longer.
pub(super) const VALUE_SIZE: usize = 54;

/// A record of a stream, in the form for each store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The form for the registry.
    pub stored: StoredStream,
    /// The form for the other stores.
    pub value: [u8; VALUE_SIZE],
}

impl Record {
    /// Returns the key.
    pub fn identity(&self) -> Uuid {
        self.stored.record.identity
    }

    /// Returns the key for the other stores.
    pub fn key(&self) -> &[u8; 16] {
        self.stored.record.identity.as_bytes()
    }
}

/// An entry that a store visits.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// As returned by the registry.
    Stored(&'a StoredStream),
    /// As key and value.
    Bytes(&'a [u8], &'a [u8]),
}

impl Entry<'_> {
    /// Returns whether this is the entry of `record`.
    pub fn is(&self, record: &Record) -> bool {
        match *self {
            Entry::Stored(stored) => *stored == record.stored,
            Entry::Bytes(key, value) => key == record.key() && value == record.value,
        }
    }
}

/// Returns `count` records, with ascending identities of version 7 that are one millisecond apart. A seed always gives
/// the same records.
pub fn records(count: u32, seed: u64) -> Vec<Record> {
    let mut random = SplitMix64::seed_from_u64(seed);
    (0..count).map(|number| record(number, &mut random)).collect()
}

/// Returns the numbers below `count` in random order.
pub fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut random = SplitMix64::seed_from_u64(seed);
    let mut numbers: Vec<u32> = (0..count).collect();
    for last in (1..numbers.len()).rev() {
        let bound = u64::try_from(last).expect("a number in memory") + 1;
        let other = usize::try_from(random.next_u64() % bound).expect("below a number in memory");
        numbers.swap(last, other);
    }
    numbers
}

fn record(number: u32, random: &mut SplitMix64) -> Record {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&random.next_u64().to_be_bytes());
    let milliseconds = FIRST_MILLISECONDS + u64::from(number);
    let identity = Builder::from_unix_timestamp_millis(milliseconds, &bytes).into_uuid();
    let (count, begin) = (1 + below(random, 16), 8 + below(random, 1 << 30));
    let begin = Position::at(begin);
    let stored = StoredStream {
        record: StreamRecord {
            begin: Some(begin),
            end: begin.checked_add(count - 1),
            count,
            length: u64::from(below(random, count * 4000)),
            ..StreamRecord::empty(identity)
        },
        layout: StreamLayout::OneRun(Generation {
            session: 1,
            step: number,
            salt: below(random, u32::MAX),
        }),
        inode: None,
    };
    let encoded = stored.encode();
    let value = encoded[StoredStream::SIZE - VALUE_SIZE..].try_into().expect("54 bytes");
    Record { stored, value }
}

fn below(random: &mut SplitMix64, bound: u32) -> u32 {
    u32::try_from(random.next_u64() % u64::from(bound)).expect("below a number of 32 bits")
}
