//! Extended attributes: named values that a file system keeps for a file, a directory or another
//! entry. POSIX ACLs and capabilities are extended attributes under their names in Linux.

use std::borrow::Borrow;

use ar7_engine::{Error as EngineError, Value};
use uuid::Uuid;

use super::damaged;
use crate::error::{Error, Result};

/// Maximum length in bytes of the name of an extended attribute.
pub const EXTENDED_NAME_MAX: usize = 255;

/// Maximum length in bytes of the value of an extended attribute.
pub const EXTENDED_VALUE_MAX: usize = 65_536;

/// Maximum length in bytes of all extended attributes of an inode, encoded.
pub const EXTENDED_MAX: usize = 1 << 20;

/// Maximum length in bytes of extended attributes in their inode, encoded. Longer ones are in a
/// stream.
pub const INLINE_EXTENDED_MAX: usize = 256;

ar7_engine::layout! {
    /// Head of an extended attribute, before its name and its value.
    pub mod extended_layout, 5 => {
        NAME_LENGTH: 1, "u8: length of the name, at least 1";
        VALUE_LENGTH: 4, "u32: length of the value, at most 65,536";
    }
}

/// An extended attribute of an inode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedAttribute {
    /// The name, with its namespace: for example `user.comment`.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

impl ExtendedAttribute {
    /// Returns an attribute with this name and value.
    pub fn new(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> ExtendedAttribute {
        ExtendedAttribute { name: name.into(), value: value.into() }
    }

    fn encoded_len(&self) -> usize {
        extended_layout::SIZE + self.name.len() + self.value.len()
    }
}

/// Where the extended attributes of an inode are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Extended {
    /// The inode has none.
    #[default]
    None,
    /// In the inode, in ascending order of their names.
    Inline(Vec<ExtendedAttribute>),
    /// In a stream of their own.
    Stream(Uuid),
}

impl Extended {
    /// Returns the stream with the attributes, if they have one.
    pub const fn stream(&self) -> Option<Uuid> {
        match self {
            Extended::Stream(stream) => Some(*stream),
            Extended::None | Extended::Inline(_) => None,
        }
    }
}

/// Returns the attributes in the order in which they are stored. Fails unless the set can be stored:
/// each name occurs once, and names, values and the set are not too long.
pub(crate) fn storable_extended(
    attributes: &[ExtendedAttribute],
) -> Result<Vec<&ExtendedAttribute>> {
    attributes.iter().try_fold(0, extended_length_with)?;
    let mut sorted: Vec<&ExtendedAttribute> = attributes.iter().collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let (name, reason) = (pair[0].name.clone(), "two extended attributes have it");
        return Err(Error::InvalidName { name, reason });
    }
    Ok(sorted)
}

/// Returns the encoded length in bytes of a set of `length` bytes with one more attribute. Fails
/// unless the attribute and the set can be stored.
pub fn extended_length_with(length: usize, attribute: &ExtendedAttribute) -> Result<usize> {
    let ExtendedAttribute { name, value } = attribute;
    validate_extended_name(name)?;
    check_length("length of an extended attribute in bytes", value.len(), EXTENDED_VALUE_MAX)?;
    let length = length.saturating_add(attribute.encoded_len());
    check_length("length of all extended attributes in bytes", length, EXTENDED_MAX)?;
    Ok(length)
}

/// Encodes attributes that are in ascending order of their names.
pub(crate) fn encode_extended(attributes: &[impl Borrow<ExtendedAttribute>]) -> Vec<u8> {
    // Allocated at full size, because a vector that grows leaves copies of the values in memory.
    let length = attributes.iter().map(|attribute| attribute.borrow().encoded_len()).sum();
    let mut bytes = Vec::with_capacity(length);
    for ExtendedAttribute { name, value } in attributes.iter().map(Borrow::borrow) {
        let name_length = u8::try_from(name.len()).expect("at most EXTENDED_NAME_MAX bytes");
        let value_length = u32::try_from(value.len()).expect("at most EXTENDED_VALUE_MAX bytes");
        bytes.push(name_length);
        bytes.extend_from_slice(&value_length.to_be_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
    }
    bytes
}

/// Decodes attributes. An inode without attributes has no field for them, so there is at least one.
pub(crate) fn decode_extended(mut bytes: &[u8]) -> Result<Vec<ExtendedAttribute>> {
    let mut attributes: Vec<ExtendedAttribute> = Vec::new();
    loop {
        let (attribute, rest) = decode_first(bytes)?;
        if attributes.last().is_some_and(|last| last.name >= attribute.name) {
            let expected = "a higher name than the previous one";
            return Err(damaged(expected, Value::Bytes(attribute.name)));
        }
        attributes.push(attribute);
        if rest.is_empty() {
            return Ok(attributes);
        }
        bytes = rest;
    }
}

/// Decodes the first attribute. Returns it and the bytes after it.
fn decode_first(bytes: &[u8]) -> Result<(ExtendedAttribute, &[u8])> {
    let short = || damaged("a complete extended attribute", "a truncated one");
    let (head, rest) = bytes.split_at_checked(extended_layout::SIZE).ok_or_else(short)?;
    let [name_length] = extended_layout::NAME_LENGTH.array(head);
    let value_length = extended_layout::VALUE_LENGTH.u32(head);
    let value_length = usize::try_from(value_length).unwrap_or(usize::MAX);
    if value_length > EXTENDED_VALUE_MAX {
        return Err(damaged(0..=EXTENDED_VALUE_MAX, value_length));
    }
    let (name, rest) = rest.split_at_checked(usize::from(name_length)).ok_or_else(short)?;
    let (value, rest) = rest.split_at_checked(value_length).ok_or_else(short)?;
    if validate_extended_name(name).is_err() {
        let expected = "the name of an extended attribute";
        return Err(damaged(expected, Value::Bytes(name.to_vec())));
    }
    Ok((ExtendedAttribute { name: name.to_vec(), value: value.to_vec() }, rest))
}

/// Returns the length in bytes of a stream with extended attributes. Checked before memory is
/// allocated for them.
pub(crate) fn extended_length(stored: u64) -> Result<usize> {
    let length = usize::try_from(stored).ok().filter(|&length| length <= EXTENDED_MAX);
    length.ok_or_else(|| damaged(0..=EXTENDED_MAX, stored))
}

/// Checks that a name is 1 to 255 bytes long and contains no NUL.
fn validate_extended_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > EXTENDED_NAME_MAX {
        return Err(Error::NameLength { name: name.to_vec() });
    }
    if name.contains(&0) {
        let reason = "it contains a NUL byte";
        return Err(Error::InvalidName { name: name.to_vec(), reason });
    }
    Ok(())
}

fn check_length(what: &'static str, found: usize, most: usize) -> Result<()> {
    if found > most {
        let (found, allowed) = (found.into(), (0..=most).into());
        return Err(EngineError::OutOfBounds { what, found, allowed }.into());
    }
    Ok(())
}
