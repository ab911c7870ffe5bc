//! Inodes.

use ar7_engine::format::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::extended::{Extended, INLINE_EXTENDED_MAX, decode_extended, encode_extended};
use super::{Record, TreeId, damaged, exactly};
use crate::error::Result;
use crate::tree::CELL_MAX;

/// Maximum length in bytes of a symbolic link's target in its inode. A longer target is in a
/// stream.
pub const INLINE_TARGET_MAX: usize = 512;

/// Maximum length in bytes of the known fields of an inode with their heads, except the target of a
/// symbolic link and the extended attributes, of which only the heads count.
const KNOWN_FIELDS_MAX: usize = 168;

/// Length in bytes of the key of an inode.
const KEY_SIZE: usize = 8;

/// Length in bytes of a time.
const TIME_SIZE: usize = 12;

// An inode has room for every known field at once.
const _: () =
    assert!(KEY_SIZE + KNOWN_FIELDS_MAX + INLINE_TARGET_MAX + INLINE_EXTENDED_MAX <= CELL_MAX);

/// Permission bits of a mode.
pub const MODE_MAX: u32 = 0o7777;

/// Maximum nanoseconds of a time.
pub const NANOSECONDS_MAX: u32 = 999_999_999;

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
    /// A named pipe.
    Fifo = 4,
    /// A socket of the file system.
    Socket = 5,
    /// A character device.
    CharacterDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

impl EntryType {
    /// Every type.
    pub const ALL: [EntryType; 7] = [
        EntryType::File,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Fifo,
        EntryType::Socket,
        EntryType::CharacterDevice,
        EntryType::BlockDevice,
    ];

    /// Returns the type's name with an article, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            EntryType::File => "a file",
            EntryType::Directory => "a directory",
            EntryType::Symlink => "a symbolic link",
            EntryType::Fifo => "a fifo",
            EntryType::Socket => "a socket",
            EntryType::CharacterDevice => "a character device",
            EntryType::BlockDevice => "a block device",
        }
    }

    /// Returns whether an entry of this type is a device, and so has a [`Device`].
    pub const fn is_device(self) -> bool {
        matches!(self, EntryType::CharacterDevice | EntryType::BlockDevice)
    }

    /// Returns whether an entry of this type is a fifo, a socket or a device, which has no content.
    pub const fn is_special(self) -> bool {
        self.is_device() || matches!(self, EntryType::Fifo | EntryType::Socket)
    }

    pub(super) fn decode(raw: u8) -> Result<EntryType> {
        let kind = EntryType::ALL.into_iter().find(|&kind| kind as u8 == raw);
        kind.ok_or_else(|| damaged(1_u8..=7, raw))
    }
}

/// Number of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNumber(pub u64);

impl InodeNumber {
    /// The root directory.
    pub const ROOT: InodeNumber = InodeNumber(1);
}

/// Permissions, owner, modification time and origin.
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
    /// What identified the entry in the file system that it was read from, if it comes from one.
    pub origin: Option<Origin>,
}

/// The state of an entry in its source at the time when it was stored. If both values are still the
/// same, nobody has written to the source since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Time of the last change of the source's content or attributes (ctime).
    pub changed: Timestamp,
    /// Inode number of the source.
    pub inode: u64,
}

/// The numbers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Number of the driver.
    pub major: u32,
    /// Number of the device among those of its driver.
    pub minor: u32,
}

/// A file, a directory or another entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its type.
    pub kind: EntryType,
    /// Permissions, owner, times.
    pub attributes: Attributes,
    /// Length of the content, or of a symbolic link's target, in bytes.
    pub size: u64,
    /// Number of names.
    pub links: u32,
    /// Target of a symbolic link, if it is short.
    pub target: Option<Vec<u8>>,
    /// Stream with the content, or with a long target. An empty file has none.
    pub stream: Option<Uuid>,
    /// The directory that contains a directory. Every directory but the root has one.
    pub parent: Option<InodeNumber>,
    /// Numbers of a device.
    pub device: Option<Device>,
    /// Extended attributes.
    pub extended: Extended,
    /// Fields that this version does not know. They are kept.
    pub unknown: Vec<(u16, Vec<u8>)>,
}

impl Inode {
    /// Returns an inode with one name and without any optional field.
    pub const fn new(kind: EntryType, attributes: Attributes) -> Inode {
        Inode {
            kind,
            attributes,
            size: 0,
            links: 1,
            target: None,
            stream: None,
            parent: None,
            device: None,
            extended: Extended::None,
            unknown: Vec::new(),
        }
    }

    /// Returns the maximum length in bytes of extended attributes in this inode. Any later change of
    /// a known field still fits next to them.
    pub(crate) fn room_for_extended(&self) -> usize {
        let used = KEY_SIZE + KNOWN_FIELDS_MAX + self.target_len() + self.unknown_len();
        CELL_MAX.saturating_sub(used).min(INLINE_EXTENDED_MAX)
    }

    fn target_len(&self) -> usize {
        self.target.as_ref().map_or(0, Vec::len)
    }

    /// Returns the length of the unknown fields in bytes, with their heads.
    fn unknown_len(&self) -> usize {
        self.unknown.iter().map(|(_, field)| tag_layout::SIZE + field.len()).sum()
    }
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
    pub(in crate::records) const PARENT: u16 = 10;
    pub(in crate::records) const DEVICE: u16 = 11;
    pub(in crate::records) const ORIGIN: u16 = 12;
    pub(in crate::records) const EXTENDED: u16 = 13;
    pub(in crate::records) const EXTENDED_STREAM: u16 = 14;
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
        let Attributes { mode, uid, gid, modified, origin } = inode.attributes;
        let extended = match &inode.extended {
            Extended::Inline(attributes) => Some(Zeroizing::new(encode_extended(attributes))),
            Extended::None | Extended::Stream(_) => None,
        };
        let bounded = inode.target_len() + extended.as_ref().map_or(0, |bytes| bytes.len());
        // Allocated at full size, because a vector that grows leaves copies of the target and of the
        // extended attributes in memory.
        let mut bytes = Vec::with_capacity(KNOWN_FIELDS_MAX + bounded + inode.unknown_len());
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
        put(tag::MODIFIED, &encode_time(modified));
        put(tag::SIZE, &inode.size.to_be_bytes());
        put(tag::LINKS, &inode.links.to_be_bytes());
        if let Some(target) = &inode.target {
            put(tag::TARGET, target);
        }
        if let Some(stream) = &inode.stream {
            put(tag::STREAM, stream.as_bytes());
        }
        if let Some(parent) = inode.parent {
            put(tag::PARENT, &parent.0.to_be_bytes());
        }
        if let Some(Device { major, minor }) = inode.device {
            put(tag::DEVICE, &[major.to_be_bytes(), minor.to_be_bytes()].concat());
        }
        if let Some(Origin { changed, inode }) = origin {
            put(tag::ORIGIN, &[&encode_time(changed)[..], &inode.to_be_bytes()].concat());
        }
        if let Some(extended) = extended {
            put(tag::EXTENDED, &extended);
        }
        if let Some(stream) = inode.extended.stream() {
            put(tag::EXTENDED_STREAM, stream.as_bytes());
        }
        for (tag, field) in &inode.unknown {
            put(*tag, field);
        }
        bytes
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<Inode> {
        let number = Inodes::decode_key(key)?;
        let mut fields = Fields { bytes, last: 0 };
        let (mode, uid, gid, modified, origin) = (0, 0, 0, Timestamp::default(), None);
        let attributes = Attributes { mode, uid, gid, modified, origin };
        let mut inode = Inode::new(EntryType::File, attributes);
        let mut seen = 0;
        while let Some((tag, field)) = fields.next()? {
            seen += usize::from((tag::KIND..=tag::LINKS).contains(&tag));
            set_field(&mut inode, tag, field)?;
        }
        if seen != usize::from(tag::LINKS) {
            return Err(damaged(tag::LINKS, seen));
        }
        check_inode(number, &inode)?;
        Ok(inode)
    }
}

fn set_field(inode: &mut Inode, tag: u16, field: &[u8]) -> Result<()> {
    match tag {
        tag::KIND => inode.kind = EntryType::decode(u8::from_be_bytes(exactly(field)?))?,
        tag::MODE => inode.attributes.mode = decode_number(field)?,
        tag::UID => inode.attributes.uid = decode_number(field)?,
        tag::GID => inode.attributes.gid = decode_number(field)?,
        tag::MODIFIED => inode.attributes.modified = decode_time(field)?,
        tag::SIZE => inode.size = u64::from_be_bytes(exactly(field)?),
        tag::LINKS => inode.links = decode_number(field)?,
        tag::TARGET => inode.target = Some(field.to_vec()),
        tag::STREAM => inode.stream = Some(Uuid::from_bytes(exactly(field)?)),
        tag::PARENT => inode.parent = Some(InodeNumber(u64::from_be_bytes(exactly(field)?))),
        tag::DEVICE => {
            let field: [u8; 8] = exactly(field)?;
            let (major, minor) = field.split_at(4);
            let (major, minor) = (decode_number(major)?, decode_number(minor)?);
            inode.device = Some(Device { major, minor });
        }
        tag::ORIGIN => {
            let field: [u8; TIME_SIZE + 8] = exactly(field)?;
            let (changed, number) = field.split_at(TIME_SIZE);
            let number = u64::from_be_bytes(exactly(number)?);
            let changed = decode_time(changed)?;
            inode.attributes.origin = Some(Origin { changed, inode: number });
        }
        tag::EXTENDED => {
            if field.len() > INLINE_EXTENDED_MAX {
                return Err(damaged(0..=INLINE_EXTENDED_MAX, field.len()));
            }
            inode.extended = Extended::Inline(decode_extended(field)?);
        }
        tag::EXTENDED_STREAM => {
            if inode.extended != Extended::None {
                let (expected, found) = ("extended attributes in one place", "in two");
                return Err(damaged(expected, found));
            }
            inode.extended = Extended::Stream(Uuid::from_bytes(exactly(field)?));
        }
        unknown => inode.unknown.push((unknown, field.to_vec())),
    }
    Ok(())
}

fn decode_number(field: &[u8]) -> Result<u32> {
    exactly(field).map(u32::from_be_bytes)
}

fn encode_time(time: Timestamp) -> Vec<u8> {
    [&time.seconds.to_be_bytes()[..], &time.nanoseconds.to_be_bytes()].concat()
}

fn decode_time(field: &[u8]) -> Result<Timestamp> {
    let field: [u8; TIME_SIZE] = exactly(field)?;
    let (seconds, nanoseconds) = field.split_at(8);
    let seconds = i64::from_be_bytes(exactly(seconds)?);
    let nanoseconds = decode_number(nanoseconds)?;
    if nanoseconds > NANOSECONDS_MAX {
        return Err(damaged(0..=NANOSECONDS_MAX, nanoseconds));
    }
    Ok(Timestamp { seconds, nanoseconds })
}

fn check_inode(number: InodeNumber, inode: &Inode) -> Result<()> {
    let mode = inode.attributes.mode;
    if mode > MODE_MAX {
        return Err(damaged(0..=MODE_MAX, mode));
    }
    if inode.links == 0 {
        // An inode is removed together with its last name.
        return Err(damaged(1..=u32::MAX, inode.links));
    }
    let (has_target, has_stream) = (inode.target.is_some(), inode.stream.is_some());
    let has_content = match inode.kind {
        EntryType::File => !has_target,
        EntryType::Symlink => has_target != has_stream,
        _ => !has_target && !has_stream,
    };
    let is_directory = inode.kind == EntryType::Directory;
    let needs_parent = is_directory && number != InodeNumber::ROOT;
    let fits = has_content
        && inode.parent.is_some() == needs_parent
        && inode.device.is_some() == inode.kind.is_device()
        && inode.target_len() <= INLINE_TARGET_MAX;
    if !fits {
        return Err(damaged("fields that fit the type", inode.kind.name()));
    }
    if inode.parent == Some(number) {
        return Err(damaged("another directory as the parent", number.0));
    }
    if let Some(stream) = inode.stream
        && inode.extended.stream() == Some(stream)
    {
        return Err(damaged("a stream for extended attributes only", stream));
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
