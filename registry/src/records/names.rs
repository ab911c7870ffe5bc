//! Names.

use ar7_engine::Value;
use zeroize::Zeroize;

use super::inodes::{EntryType, InodeNumber};
use super::{Record, TreeId, damaged, exactly};
use crate::error::{Error, Result};

/// Maximum length of a name in bytes.
pub const NAME_MAX: usize = 255;

ar7_engine::layout! {
    /// Value of a name.
    pub mod name_layout, 9 => {
        INODE: 8, "u64: number of the inode";
        KIND: 1, "u8: the kind, as in the inode";
    }
}

/// Checks that `name` is 1 to 255 bytes long, contains no `/` and no NUL, and is neither `.` nor
/// `..`.
pub fn validate_name(name: &[u8]) -> Result<()> {
    let reason = match name {
        [] => return Err(Error::NameLength { name: Vec::new() }),
        _ if name.len() > NAME_MAX => return Err(Error::NameLength { name: name.to_vec() }),
        b"." | b".." => "the name is reserved",
        _ if name.contains(&b'/') => "it contains a slash",
        _ if name.contains(&0) => "it contains a NUL byte",
        _ => return Ok(()),
    };
    Err(Error::InvalidName { name: name.to_vec(), reason })
}

/// Names: directory and name to inode.
pub enum NameRecords {}

/// Key of a name: ordered by directory, then by the bytes of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameKey {
    /// The directory.
    pub directory: InodeNumber,
    /// The name. It is empty only in a search for the first name.
    pub name: Vec<u8>,
}

impl Drop for NameKey {
    fn drop(&mut self) {
        self.name.zeroize();
    }
}

/// The value of a name: its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameValue {
    /// The inode.
    pub inode: InodeNumber,
    /// Its type.
    pub kind: EntryType,
}

impl Record for NameRecords {
    const TREE: TreeId = TreeId::Names;
    type Key = NameKey;
    type Value = NameValue;

    fn encode_key(key: &NameKey) -> Vec<u8> {
        [&key.directory.0.to_be_bytes()[..], &key.name].concat()
    }

    fn decode_key(bytes: &[u8]) -> Result<NameKey> {
        let (directory, name) =
            bytes.split_at_checked(8).ok_or_else(|| damaged("8 bytes or more", bytes.len()))?;
        if validate_name(name).is_err() {
            return Err(damaged("a name", Value::Bytes(name.to_vec())));
        }
        let directory = InodeNumber(u64::from_be_bytes(exactly(directory)?));
        Ok(NameKey { directory, name: name.to_vec() })
    }

    fn encode_value(value: &NameValue) -> Vec<u8> {
        let mut bytes = vec![0; name_layout::SIZE];
        name_layout::INODE.put(&mut bytes, &value.inode.0.to_be_bytes());
        name_layout::KIND.put(&mut bytes, &[value.kind as u8]);
        bytes
    }

    fn decode_value(_: &[u8], bytes: &[u8]) -> Result<NameValue> {
        let bytes: [u8; name_layout::SIZE] = exactly(bytes)?;
        let [kind] = name_layout::KIND.array(&bytes);
        let inode = InodeNumber(name_layout::INODE.u64(&bytes));
        Ok(NameValue { inode, kind: EntryType::decode(kind)? })
    }
}
