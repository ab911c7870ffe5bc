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
    use ar7_registry::records::{
        Attributes, Device, EntryType, Extended, ExtendedAttribute, Inode, InodeNumber, Origin,
    };
    use uuid::Uuid;

    #[test]
    fn any_inode_is_accepted_or_rejected() {
        let modified = Timestamp { seconds: -5, nanoseconds: 999_999_999 };
        let origin = Some(Origin { changed: modified, inode: u64::MAX });
        let attributes = Attributes { mode: 0o4755, uid: 1, gid: 2, modified, origin };
        let of = |kind| Inode::new(kind, attributes);
        let set = vec![ExtendedAttribute::new("a", "value"), ExtendedAttribute::new("b", "")];
        let file = Inode {
            size: 9000,
            links: 2,
            stream: Some(Uuid::from_u128(77)),
            extended: Extended::Inline(set),
            unknown: vec![(50, b"later".to_vec())],
            ..of(EntryType::File)
        };
        let link = Inode { target: Some(b"../target".to_vec()), ..of(EntryType::Symlink) };
        let extended = Extended::Stream(Uuid::from_u128(78));
        let parent = Some(InodeNumber::ROOT);
        let directory = Inode { parent, extended, ..of(EntryType::Directory) };
        let device = Some(Device { major: 8, minor: 1 });
        let packed = Inode { size: 9, slice: Some(1 << 40), ..of(EntryType::File) };
        let disk = Inode { device, ..of(EntryType::BlockDevice) };
        for (seed, inode) in (0x696e_6f64_u64..).zip([file, link, directory, disk, packed]) {
            let encoded = Inodes::encode_value(&inode);
            assert!(inode_parse(&encoded), "{inode:?}");
            check_mutations(&encoded, seed, inode_parse);
        }
    }
}
