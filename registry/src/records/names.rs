//! Names and inodes.

use ar7_engine::format::Timestamp;
use ar7_engine::{Check, Error as EngineError, Value};
use uuid::Uuid;
use zeroize::Zeroize;

use super::{Record, TreeId, exactly};
use crate::error::{Error, Result};

/// Maximum length of a name in bytes.
pub const NAME_MAX: usize = 255;

/// Maximum length in bytes of a symbolic link's target in its inode. A longer target is in a
/// stream.
pub const INLINE_TARGET_MAX: usize = 512;

/// Maximum length in bytes of the known fields of an inode with their heads, except the target of a
/// symbolic link.
const KNOWN_FIELDS_MAX: usize = 128;

/// Permission bits of a mode.
pub const MODE_MAX: u32 = 0o7777;

/// Maximum nanoseconds of a time.
pub const NANOSECONDS_MAX: u32 = 999_999_999;

ar7_engine::layout! {
    /// Value of a name.
    pub mod name_layout, 9 => {
        INODE: 8, "u64: number of the inode";
        KIND: 1, "u8: 1 file, 2 directory, 3 symbolic link";
    }
}

ar7_engine::layout! {
    /// Head of a tagged field of an inode.
    pub mod tag_layout, 4 => {
        TAG: 2, "u16: which field; ascending within an inode";
        LENGTH: 2, "u16: length of the field that follows";
    }
}

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// A file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
}

impl EntryType {
    /// Returns the type's name with an article, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            EntryType::File => "a file",
            EntryType::Directory => "a directory",
            EntryType::Symlink => "a symbolic link",
        }
    }

    fn decode(raw: u8) -> Result<EntryType> {
        match raw {
            1 => Ok(EntryType::File),
            2 => Ok(EntryType::Directory),
            3 => Ok(EntryType::Symlink),
            _ => Err(damaged("1, 2 or 3", raw)),
        }
    }
}

/// Number of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNumber(pub u64);

impl InodeNumber {
    /// The root directory.
    pub const ROOT: InodeNumber = InodeNumber(1);
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

/// Permissions, owner and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of the content.
    pub modified: Timestamp,
}

/// A file, directory or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its type.
    pub kind: EntryType,
    /// Permissions, owner and time.
    pub attributes: Attributes,
    /// Length of the content, or of a symbolic link's target, in bytes.
    pub size: u64,
    /// Number of names.
    pub links: u32,
    /// Target of a symbolic link, if it is short.
    pub target: Option<Vec<u8>>,
    /// Stream with the content, or with a long target. An empty file has none.
    pub stream: Option<Uuid>,
    /// Fields that this version does not know. They are kept.
    pub unknown: Vec<(u16, Vec<u8>)>,
}

/// Inodes: number to fields.
pub enum Inodes {}

pub(super) mod tag {
    pub(in crate::records) const KIND: u16 = 1;
    pub(in crate::records) const MODE: u16 = 2;
    pub(in crate::records) const UID: u16 = 3;
    pub(in crate::records) const GID: u16 = 4;
    pub(in crate::records) const MODIFIED: u16 = 5;
    pub(in crate::records) const SIZE: u16 = 6;
    pub(in crate::records) const LINKS: u16 = 7;
    pub(in crate::records) const TARGET: u16 = 8;
    pub(in crate::records) const STREAM: u16 = 9;
}

impl Record for Inodes {
    const TREE: TreeId = TreeId::Inodes;
    type Key = InodeNumber;
    type Value = Inode;

    fn encode_key(key: &InodeNumber) -> Vec<u8> {
        key.0.to_be_bytes().to_vec()
    }

    fn decode_key(bytes: &[u8]) -> Result<InodeNumber> {
        exactly(bytes).map(u64::from_be_bytes).map(InodeNumber)
    }

    fn encode_value(inode: &Inode) -> Vec<u8> {
        let Attributes { mode, uid, gid, modified } = inode.attributes;
        let seconds = modified.seconds.to_be_bytes();
        let modified = [&seconds[..], &modified.nanoseconds.to_be_bytes()].concat();
        let unknown = inode.unknown.iter().map(|(_, field)| tag_layout::SIZE + field.len());
        let target = inode.target.as_ref().map_or(0, Vec::len);
        // Allocated at full size, because a vector that grows leaves copies of the target in
        // memory.
        let mut bytes = Vec::with_capacity(KNOWN_FIELDS_MAX + target + unknown.sum::<usize>());
        let mut put = |tag: u16, field: &[u8]| {
            let length =
                u16::try_from(field.len()).expect("a field of an inode is shorter than 64 KiB");
            bytes.extend_from_slice(&tag.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field);
        };
        put(tag::KIND, &[inode.kind as u8]);
        put(tag::MODE, &mode.to_be_bytes());
        put(tag::UID, &uid.to_be_bytes());
        put(tag::GID, &gid.to_be_bytes());
        put(tag::MODIFIED, &modified);
        put(tag::SIZE, &inode.size.to_be_bytes());
        put(tag::LINKS, &inode.links.to_be_bytes());
        if let Some(target) = &inode.target {
            put(tag::TARGET, target);
        }
        if let Some(stream) = &inode.stream {
            put(tag::STREAM, stream.as_bytes());
        }
        for (tag, field) in &inode.unknown {
            put(*tag, field);
        }
        bytes
    }

    fn decode_value(_: &[u8], bytes: &[u8]) -> Result<Inode> {
        let mut fields = Fields { bytes, last: 0 };
        let mut inode = Inode {
            kind: EntryType::File,
            attributes: Attributes { mode: 0, uid: 0, gid: 0, modified: Timestamp::default() },
            size: 0,
            links: 0,
            target: None,
            stream: None,
            unknown: Vec::new(),
        };
        let mut seen = 0;
        while let Some((tag, field)) = fields.next()? {
            seen += usize::from((tag::KIND..=tag::LINKS).contains(&tag));
            set_field(&mut inode, tag, field)?;
        }
        if seen != usize::from(tag::LINKS) {
            return Err(damaged(tag::LINKS, seen));
        }
        check_inode(&inode)?;
        Ok(inode)
    }
}

fn set_field(inode: &mut Inode, tag: u16, field: &[u8]) -> Result<()> {
    let number = |field: &[u8]| exactly(field).map(u32::from_be_bytes);
    match tag {
        tag::KIND => inode.kind = EntryType::decode(u8::from_be_bytes(exactly(field)?))?,
        tag::MODE => inode.attributes.mode = number(field)?,
        tag::UID => inode.attributes.uid = number(field)?,
        tag::GID => inode.attributes.gid = number(field)?,
        tag::MODIFIED => {
            let field: [u8; 12] = exactly(field)?;
            inode.attributes.modified = Timestamp {
                seconds: i64::from_be_bytes(exactly(&field[..8])?),
                nanoseconds: number(&field[8..])?,
            };
        }
        tag::SIZE => inode.size = u64::from_be_bytes(exactly(field)?),
        tag::LINKS => inode.links = number(field)?,
        tag::TARGET => inode.target = Some(field.to_vec()),
        tag::STREAM => inode.stream = Some(Uuid::from_bytes(exactly(field)?)),
        unknown => inode.unknown.push((unknown, field.to_vec())),
    }
    Ok(())
}

fn check_inode(inode: &Inode) -> Result<()> {
    let Attributes { mode, modified, .. } = inode.attributes;
    if mode > MODE_MAX {
        return Err(damaged(0..=MODE_MAX, mode));
    }
    if modified.nanoseconds > NANOSECONDS_MAX {
        return Err(damaged(0..=NANOSECONDS_MAX, modified.nanoseconds));
    }
    if inode.links == 0 {
        // An inode is removed together with its last name.
        return Err(damaged(1..=u32::MAX, inode.links));
    }
    let target = inode.target.as_ref().map_or(0, Vec::len);
    let fits = match inode.kind {
        EntryType::File => inode.target.is_none(),
        EntryType::Directory => inode.target.is_none() && inode.stream.is_none(),
        EntryType::Symlink => inode.target.is_some() != inode.stream.is_some(),
    };
    if !fits || target > INLINE_TARGET_MAX {
        return Err(damaged("fields that fit the type", inode.kind.name()));
    }
    Ok(())
}

/// The tagged fields of an inode, in ascending order.
struct Fields<'a> {
    bytes: &'a [u8],
    last: u16,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u16, &'a [u8])>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let short = || damaged("a complete field", "a truncated one");
        let (head, rest) = self.bytes.split_at_checked(tag_layout::SIZE).ok_or_else(short)?;
        let (tag, length) = (tag_layout::TAG.u16(head), tag_layout::LENGTH.u16(head));
        let (field, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(short)?;
        if tag <= self.last {
            return Err(damaged("a higher tag than the previous one", tag));
        }
        (self.last, self.bytes) = (tag, rest);
        Ok(Some((tag, field)))
    }
}

fn damaged(expected: impl Into<Value>, found: impl Into<Value>) -> Error {
    EngineError::damaged(None, Check::Name, expected, found).into()
}
