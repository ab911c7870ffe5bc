//! Names.

use ar7_engine::Value;
use zeroize::Zeroize;

use super::inodes::{EntryType, InodeNumber};
use super::number::{decode_number, encode_number};
use super::{Record, TreeId, damaged, exactly};
use crate::error::{Error, Result};

/// Maximum length of a name in bytes.
pub const NAME_MAX: usize = 255;

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
        [&[value.kind as u8][..], &encode_number(value.inode.0)].concat()
    }

    fn decode_value(_: &[u8], bytes: &[u8]) -> Result<NameValue> {
        let (&kind, number) = bytes.split_first().ok_or_else(|| damaged("a kind", 0_u8))?;
        let inode = InodeNumber(decode_number::<8>(number)?);
        Ok(NameValue { inode, kind: EntryType::decode(kind)? })
    }
}
