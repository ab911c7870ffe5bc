//! Decoding of an extent, key and value, from arbitrary bytes.

use ar7_registry::records::{Extents, Record, extent_key_layout, extent_layout};

use crate::bytes::{check_decoded, engine_error, padded, split};

/// Decodes `bytes` as the key and the value of an extent. Returns whether they were accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn extent_parse(bytes: &[u8]) -> bool {
    let (key, bytes) = split::<{ extent_key_layout::SIZE }>(bytes);
    let value = padded::<{ extent_layout::SIZE }>(bytes);
    let decoded = Extents::decode_key(&key)
        .and_then(|decoded| Ok((decoded, Extents::decode_value(&key, &value[..])?)));
    if let Ok((key, extent)) = &decoded {
        let (start, count) = (extent.run.start().get(), extent.run.count());
        assert!(count > 0 && start.checked_add(count).is_some(), "the blocks have positions");
        assert!(key.first.get().checked_add(count).is_some(), "the blocks have indexes");
    }
    let encoded = decoded
        .map(|(key, value)| [Extents::encode_key(&key), Extents::encode_value(&value)].concat());
    check_decoded(&[&key[..], &value[..]].concat(), encoded.map_err(engine_error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{BlockIndex, Generation, Position, Run};
    use ar7_registry::records::{Extent, ExtentKey};
    use uuid::Uuid;

    #[test]
    fn any_extent_is_accepted_or_rejected() {
        let key = ExtentKey { stream: Uuid::from_u128(9), first: BlockIndex(1000) };
        let run = Run::new(Position::at(5000), 300).expect("a run");
        let generation = Generation { session: 1, step: 2, salt: 3 };
        let value = Extents::encode_value(&Extent { run, generation });
        check_mutations(&[Extents::encode_key(&key), value].concat(), 0x6578_7465, extent_parse);
    }
}
