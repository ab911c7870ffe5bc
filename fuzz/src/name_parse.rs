//! Decoding of a name and its value from arbitrary bytes.

use ar7_registry::records::{NameRecords, Record, name_layout, validate_name};

use crate::bytes::{check_decoded, engine_error, split};

/// Decodes `bytes` as the value of a name, followed by its key. Returns whether they were accepted.
///
/// # Panics
/// If decoding panics, the decoded value does not match the bytes, or the accepted name must not be extracted.
pub fn name_parse(bytes: &[u8]) -> bool {
    let (value, key) = split::<{ name_layout::SIZE }>(bytes);
    let decoded = NameRecords::decode_key(key).and_then(|decoded| {
        validate_name(&decoded.name)?;
        Ok((decoded, NameRecords::decode_value(key, &value)?))
    });
    if let Ok((key, _)) = &decoded {
        let name = &key.name[..];
        let is_one_part =
            !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
        assert!(is_one_part, "a name that leads outside its directory: {}", name.escape_ascii());
        assert!(name.len() <= 255 && !name.contains(&0), "no file system allows such a name");
    }
    let encoded = decoded
        .map(|(key, value)| {
            [NameRecords::encode_value(&value), NameRecords::encode_key(&key)].concat()
        })
        .map_err(engine_error);
    check_decoded(&[&value, key].concat(), encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_registry::records::{EntryType, InodeNumber, NameKey, NameValue};

    #[test]
    fn any_name_is_accepted_or_rejected() {
        let value = NameValue { inode: InodeNumber(7), kind: EntryType::File };
        let key = NameKey { directory: InodeNumber::ROOT, name: b"a name".to_vec() };
        let bytes = [NameRecords::encode_value(&value), NameRecords::encode_key(&key)].concat();
        check_mutations(&bytes, 0x6e61_6d65, name_parse);
    }

    #[test]
    fn names_that_lead_outside_their_directory_are_rejected() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
            let key = NameKey { directory: InodeNumber::ROOT, name: name.to_vec() };
            let value = NameValue { inode: InodeNumber(7), kind: EntryType::File };
            let bytes = [NameRecords::encode_value(&value), NameRecords::encode_key(&key)].concat();
            assert!(!name_parse(&bytes), "{}", name.escape_ascii());
        }
    }
}
