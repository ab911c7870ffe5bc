//! Decoding of an inode from arbitrary bytes.

use ar7_registry::records::{Inodes, Record};

use crate::bytes::{check_decoded, engine_error};

/// Decodes `bytes` as the fields of an inode. Returns whether they were accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn inode_parse(bytes: &[u8]) -> bool {
    let decoded = Inodes::decode_value(&7_u64.to_be_bytes(), bytes);
    check_decoded(bytes, decoded.map(|inode| Inodes::encode_value(&inode)).map_err(engine_error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::Timestamp;
    use ar7_registry::records::{Attributes, EntryType, Inode};
    use uuid::Uuid;

    #[test]
    fn any_inode_is_accepted_or_rejected() {
        let modified = Timestamp { seconds: -5, nanoseconds: 999_999_999 };
        let attributes = Attributes { mode: 0o4755, uid: 1, gid: 2, modified, origin: None };
        let file = Inode {
            size: 9000,
            links: 2,
            stream: Some(Uuid::from_u128(77)),
            unknown: vec![(100, b"later".to_vec())],
            ..Inode::new(EntryType::File, attributes)
        };
        check_mutations(&Inodes::encode_value(&file), 0x6669_6c65, inode_parse);
        let target = Some(b"../target".to_vec());
        let link = Inode { kind: EntryType::Symlink, target, stream: None, ..file };
        check_mutations(&Inodes::encode_value(&link), 0x6c69_6e6b, inode_parse);
    }
}
