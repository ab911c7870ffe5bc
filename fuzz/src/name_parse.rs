//! Decoding of a name and its value from arbitrary bytes.

use ar7_registry::records::{NameRecords, Record, validate_name};

use crate::bytes::{check_decoded, engine_error};

/// Maximum length of the value of a name: the kind, and the number of the inode.
const VALUE_MAX: usize = 9;

/// Returns the input for a name.
pub(crate) fn name_input(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("the value of a name is short");
    [&[length][..], value, key].concat()
}

/// Decodes `bytes` as the length of the value of a name, the value and the key. Returns whether they were accepted.
///
/// # Panics
/// If decoding panics, the decoded value does not match the bytes, or the accepted name must not be extracted.
pub fn name_parse(bytes: &[u8]) -> bool {
    let Some((&length, rest)) = bytes.split_first() else { return false };
    let length = usize::from(length).min(VALUE_MAX).min(rest.len());
    let (value, key) = rest.split_at(length);
    let decoded = NameRecords::decode_key(key).and_then(|decoded| {
        validate_name(&decoded.name)?;
        Ok((decoded, NameRecords::decode_value(key, value)?))
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
    check_decoded(rest, encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_registry::records::{EntryType, InodeNumber, NameKey, NameValue};

    fn input(name: &[u8]) -> Vec<u8> {
        let value = NameValue { inode: InodeNumber(700), kind: EntryType::File };
        let key = NameKey { directory: InodeNumber::ROOT, name: name.to_vec() };
        name_input(&NameRecords::encode_key(&key), &NameRecords::encode_value(&value))
    }

    #[test]
    fn any_name_is_accepted_or_rejected() {
        let bytes = input(b"a name");
        assert!(name_parse(&bytes));
        check_mutations(&bytes, 0x6e61_6d65, name_parse);
    }

    #[test]
    fn names_that_lead_outside_their_directory_are_rejected() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
            assert!(!name_parse(&input(name)), "{}", name.escape_ascii());
        }
    }
}
