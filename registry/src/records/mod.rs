//! The records in the trees: keys, values, and their encodings.

mod extended;
mod inodes;
mod names;
mod number;
mod packs;
mod space;
mod streams;
#[cfg(test)]
mod tests;
mod trees;

pub use extended::{
    EXTENDED_MAX, EXTENDED_NAME_MAX, EXTENDED_VALUE_MAX, Extended, ExtendedAttribute,
    INLINE_EXTENDED_MAX, extended_layout, extended_length_with,
};
pub(crate) use extended::{decode_extended, encode_extended, extended_length, storable_extended};
pub use inodes::{
    Attributes, Device, EntryType, INLINE_TARGET_MAX, Inode, InodeNumber, Inodes, MODE_MAX,
    NANOSECONDS_MAX, Origin, TAG_MAX, tag_layout,
};
pub use names::{NAME_MAX, NameKey, NameRecords, NameValue, validate_name};
pub use packs::{
    ADDRESS_MAX, DeadSlices, Frame, Frames, PACK_OWNER, Pack, Packs, Stored, frame_layout,
    pack_layout,
};
pub use space::{Free, PendingDeletions, SessionEntry, Sessions};
pub use streams::{Extent, ExtentKey, Extents, Streams, extent_key_layout, extent_layout};
pub use trees::TreeId;
pub(crate) use trees::check_roots;

use ar7_engine::format::RESERVED_STREAMS;
use ar7_engine::{Check, Error as EngineError, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// A kind of record: its tree and the encoding of its keys and values. Keys sort like their encoded
/// bytes.
pub trait Record {
    /// The tree.
    const TREE: TreeId;
    /// Type of the key.
    type Key;
    /// Type of the value.
    type Value;

    /// Encodes a key.
    fn encode_key(key: &Self::Key) -> Vec<u8>;
    /// Passes the encoded key to `work`, and wipes it afterwards, because it may contain a name.
    fn with_key<T>(key: &Self::Key, work: impl FnOnce(&[u8]) -> T) -> T {
        work(&Zeroizing::new(Self::encode_key(key)))
    }
    /// Decodes a key.
    fn decode_key(bytes: &[u8]) -> Result<Self::Key>;
    /// Encodes a value.
    fn encode_value(value: &Self::Value) -> Vec<u8>;
    /// Passes the encoded value to `work`, and wipes it afterwards, because it may contain the
    /// target of a symbolic link, or extended attributes.
    fn with_value<T>(value: &Self::Value, work: impl FnOnce(&[u8]) -> T) -> T {
        work(&Zeroizing::new(Self::encode_value(value)))
    }
    /// Decodes the value that belongs to `key`.
    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<Self::Value>;
}

/// Reads records of a commit or of the open transaction.
pub(crate) trait ReadRecords {
    /// Returns the value of a key.
    fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R::Value>>;

    /// Returns the record with the greatest key that is not above `key`.
    fn floor<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>>;

    /// Returns the record with the least key that is not below `key`.
    fn ceiling<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>>;
}

/// Decodes an entry of a tree.
pub(crate) fn decoded_entry<R: Record>(
    found: Option<(Vec<u8>, Vec<u8>)>,
) -> Result<Option<(R::Key, R::Value)>> {
    let Some(found) = found else { return Ok(None) };
    let (key, value) = (Zeroizing::new(found.0), Zeroizing::new(found.1));
    Ok(Some((R::decode_key(&key)?, R::decode_value(&key, &value)?)))
}

/// Decodes a value and wipes its bytes, because they may contain the target of a symbolic link, or
/// extended attributes.
pub(crate) fn decoded_value<R: Record>(
    key: &[u8],
    found: Option<Vec<u8>>,
) -> Result<Option<R::Value>> {
    found.map(|value| R::decode_value(key, &Zeroizing::new(value))).transpose()
}

/// The counter of the meta slot that holds the next address of packed content.
pub(crate) const ADDRESS_COUNTER: usize = 2;

/// The counter of the meta slot that holds the number of bytes that frames use in packs.
pub(crate) const PACKED_COUNTER: usize = 3;

/// The counter of the meta slot that holds how many of these bytes belong to files.
pub(crate) const LIVE_COUNTER: usize = 4;

/// The counter of the meta slot that holds the choice of compression, which the application encodes.
pub(crate) const COMPRESSION_COUNTER: usize = 5;

/// The counter of pages whose copies are less than 256 blocks apart.
pub(crate) const NEAR_PAGES_COUNTER: usize = 1;

/// The counter of the meta slot that holds the number of blocks in the free list.
pub(crate) const FREE_BLOCKS_COUNTER: usize = 7;

/// Returns the UUID of a reserved stream.
pub(crate) fn reserved_identity(index: usize) -> Uuid {
    Uuid::from_u128(index as u128)
}

/// Returns the index of the reserved stream with this UUID, if it is one.
pub(crate) fn reserved_index(identity: Uuid) -> Option<usize> {
    usize::try_from(identity.as_u128()).ok().filter(|&index| index < RESERVED_STREAMS)
}

/// Returns the bytes as an array. Fails unless they have exactly its length.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| EngineError::damaged(None, Check::Record, N, bytes.len()).into())
}

/// Returns the error for damage of a name or an inode.
fn damaged(expected: impl Into<Value>, found: impl Into<Value>) -> Error {
    EngineError::damaged(None, Check::Name, expected, found).into()
}
