//! Decoding of a stream record, with the location of its blocks, from arbitrary bytes.

use ar7_engine::format::{Position, StoredStream, StreamLayout};

use crate::bytes::{check_decoded, padded};

/// Decodes `bytes` as a stored stream. Returns whether it was accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn stream_record_parse(bytes: &[u8]) -> bool {
    let stored = padded::<{ StoredStream::SIZE }>(bytes);
    let decoded = StoredStream::decode(&stored);
    if let Ok(stored) = &decoded {
        check_record(stored);
    }
    check_decoded(&stored[..], decoded.map(|stored| stored.encode()))
}

/// Checks that the fields of a record are consistent.
fn check_record(stored: &StoredStream) {
    let record = &stored.record;
    assert!(record.length <= u64::from(record.count) * 4008, "longer than its blocks");
    let ends = (record.begin.map(Position::get), record.end.map(Position::get));
    match (ends, record.count, stored.layout) {
        ((None, None), 0, StreamLayout::OneRun(_)) => {}
        ((Some(begin), Some(end)), count @ 1.., StreamLayout::OneRun(_)) => {
            assert!(begin >= 8 && u64::from(begin) + u64::from(count) == u64::from(end) + 1);
        }
        ((Some(begin), Some(end)), 2.., StreamLayout::Extents) => {
            assert!(
                begin >= 8 && end >= 8 && begin != end,
                "a chain of several blocks has two ends"
            );
        }
        _ => panic!("an inconsistent record: {stored:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{Generation, StreamRecord};
    use uuid::Uuid;

    #[test]
    fn any_record_is_accepted_or_rejected() {
        let record = StreamRecord {
            identity: Uuid::from_u128(99),
            begin: Some(Position::at(50)),
            end: Some(Position::at(52)),
            count: 3,
            length: 10_000,
            compression: 0,
        };
        let generation = Generation { session: 1, step: 2, salt: 3 };
        let one_run =
            StoredStream { record, layout: StreamLayout::OneRun(generation), inode: None };
        check_mutations(&one_run.encode(), 0x7275_6e00, stream_record_parse);
        let extents = StoredStream { layout: StreamLayout::Extents, ..one_run };
        check_mutations(&extents.encode(), 0x6578_7400, stream_record_parse);
    }
}
