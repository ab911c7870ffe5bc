//! Inodes.

use ar7_engine::Value;
use ar7_engine::format::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::extended::{Extended, INLINE_EXTENDED_MAX, decode_extended, encode_extended};
use super::number::{decode_number, decode_signed, encode_number, encode_signed};
use super::{ADDRESS_MAX, Record, TreeId, damaged, exactly};
use crate::error::Result;
use crate::tree::CELL_MAX;

/// Maximum length in bytes of a symbolic link's target in its inode. A longer target is in a
/// stream.
pub const INLINE_TARGET_MAX: usize = 512;

/// Maximum length in bytes of the known fields of an inode with their heads, except the target of a
/// symbolic link and the extended attributes, of which only the heads count.
const KNOWN_FIELDS_MAX: usize = 144;

/// Length in bytes of the key of an inode.
const KEY_SIZE: usize = 8;

/// Maximum length in bytes of a time, or of the difference of two: nanoseconds between the earliest and the latest second.
const TIME_MAX: usize = 12;

const NANOSECONDS_PER_SECOND: i128 = 1_000_000_000;

// An inode has room for every known field at once.
const _: () =
    assert!(KEY_SIZE + KNOWN_FIELDS_MAX + INLINE_TARGET_MAX + INLINE_EXTENDED_MAX <= CELL_MAX);

/// Permission bits of a mode.
pub const MODE_MAX: u32 = 0o7777;

/// Maximum nanoseconds of a time.
pub const NANOSECONDS_MAX: u32 = 999_999_999;

ar7_engine::layout! {
    /// Head of a tagged field of an inode.
    pub mod tag_layout, 2 => {
        TAG: 2, "u16: 1024 times the tag, which tells the field, plus the length of what follows";
    }
}

/// The lowest bits of the head of a field are its length.
const LENGTH_BITS: u32 = 10;

/// The highest tag of a field.
pub const TAG_MAX: u8 = 63;

// A field is never longer than its length can state.
const _: () = assert!(CELL_MAX < 1 << LENGTH_BITS);

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
    /// Stream with the content, or with a long target. An empty or packed file has none.
    pub stream: Option<Uuid>,
    /// First address of the content of a packed file.
    pub slice: Option<u64>,
    /// The directory that contains a directory. Every directory but the root has one.
    pub parent: Option<InodeNumber>,
    /// Numbers of a device.
    pub device: Option<Device>,
    /// Extended attributes.
    pub extended: Extended,
    /// Fields that this version does not know. They are kept.
    pub unknown: Vec<(u8, Vec<u8>)>,
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
            slice: None,
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
    pub(in crate::records) const KIND: u8 = 1;
    pub(in crate::records) const MODE: u8 = 2;
    pub(in crate::records) const UID: u8 = 3;
    pub(in crate::records) const GID: u8 = 4;
    pub(in crate::records) const MODIFIED: u8 = 5;
    pub(in crate::records) const SIZE: u8 = 6;
    pub(in crate::records) const LINKS: u8 = 7;
    pub(in crate::records) const TARGET: u8 = 8;
    pub(in crate::records) const STREAM: u8 = 9;
    pub(in crate::records) const PARENT: u8 = 10;
    pub(in crate::records) const DEVICE: u8 = 11;
    pub(in crate::records) const ORIGIN: u8 = 12;
    pub(in crate::records) const EXTENDED: u8 = 13;
    pub(in crate::records) const EXTENDED_STREAM: u8 = 14;
    pub(in crate::records) const SLICE: u8 = 15;
    pub(in crate::records) const ORIGIN_INODE: u8 = 16;
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
        let mut put = |tag: u8, field: &[u8]| {
            let length = u16::try_from(field.len()).expect("a field is shorter than a cell");
            let head = (u16::from(tag) << LENGTH_BITS) + length;
            bytes.extend_from_slice(&head.to_be_bytes());
            bytes.extend_from_slice(field);
        };
        put(tag::KIND, &[inode.kind as u8]);
        let numbers = [
            (tag::MODE, encode_number(mode.into())),
            (tag::UID, encode_number(uid.into())),
            (tag::GID, encode_number(gid.into())),
            (tag::MODIFIED, encode_signed(as_number(modified))),
            (tag::SIZE, encode_number(inode.size)),
            (tag::LINKS, encode_number(inode.links.saturating_sub(1).into())),
        ];
        for (tag, number) in numbers.iter().filter(|(_, number)| !number.is_empty()) {
            put(*tag, number);
        }
        if let Some(target) = &inode.target {
            put(tag::TARGET, target);
        }
        if let Some(stream) = &inode.stream {
            put(tag::STREAM, stream.as_bytes());
        }
        if let Some(parent) = inode.parent {
            put(tag::PARENT, &encode_number(parent.0));
        }
        if let Some(Device { major, minor }) = inode.device {
            put(tag::DEVICE, &[major.to_be_bytes(), minor.to_be_bytes()].concat());
        }
        if let Some(origin) = origin {
            put(tag::ORIGIN, &encode_signed(as_number(origin.changed) - as_number(modified)));
        }
        if let Some(extended) = extended {
            put(tag::EXTENDED, &extended);
        }
        if let Some(stream) = inode.extended.stream() {
            put(tag::EXTENDED_STREAM, stream.as_bytes());
        }
        if let Some(first) = inode.slice {
            put(tag::SLICE, &encode_number(first));
        }
        if let Some(origin) = origin {
            put(tag::ORIGIN_INODE, &encode_number(origin.inode));
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
        let mut is_first = true;
        let mut source = None;
        while let Some((tag, field)) = fields.next()? {
            if is_first != (tag == tag::KIND) {
                return Err(damaged(tag::KIND, tag));
            }
            is_first = false;
            match tag {
                tag::ORIGIN_INODE => source = Some(decode_number::<8>(field)?),
                _ => set_field(&mut inode, tag, field)?,
            }
        }
        if is_first {
            return Err(damaged(tag::KIND, "no field"));
        }
        match (&mut inode.attributes.origin, source) {
            (Some(origin), Some(source)) => origin.inode = source,
            (None, None) => {}
            _ => return Err(damaged("both fields of the origin, or neither", "one")),
        }
        check_inode(number, &inode)?;
        Ok(inode)
    }
}

fn set_field(inode: &mut Inode, tag: u8, field: &[u8]) -> Result<()> {
    if (tag::MODE..=tag::LINKS).contains(&tag) && field.is_empty() {
        return Err(damaged("a number above 0", tag));
    }
    match tag {
        tag::KIND => inode.kind = EntryType::decode(u8::from_be_bytes(exactly(field)?))?,
        tag::MODE => inode.attributes.mode = decode_u32(field)?,
        tag::UID => inode.attributes.uid = decode_u32(field)?,
        tag::GID => inode.attributes.gid = decode_u32(field)?,
        tag::MODIFIED => inode.attributes.modified = decode_time(field, Timestamp::default())?,
        tag::SIZE => inode.size = decode_number::<8>(field)?,
        tag::LINKS => {
            let further = decode_u32(field)?;
            let links = further.checked_add(1);
            inode.links = links.ok_or_else(|| damaged(1..=u32::MAX - 1, further))?;
        }
        tag::TARGET => inode.target = Some(field.to_vec()),
        tag::STREAM => inode.stream = Some(Uuid::from_bytes(exactly(field)?)),
        tag::PARENT => inode.parent = Some(InodeNumber(decode_number::<8>(field)?)),
        tag::DEVICE => {
            let field: [u8; 8] = exactly(field)?;
            let (major, minor) = field.split_at(4);
            let number = |bytes| exactly(bytes).map(u32::from_be_bytes);
            inode.device = Some(Device { major: number(major)?, minor: number(minor)? });
        }
        tag::ORIGIN => {
            let changed = decode_time(field, inode.attributes.modified)?;
            inode.attributes.origin = Some(Origin { changed, inode: 0 });
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
        tag::SLICE => inode.slice = Some(decode_number::<8>(field)?),
        unknown => inode.unknown.push((unknown, field.to_vec())),
    }
    Ok(())
}

fn decode_u32(field: &[u8]) -> Result<u32> {
    let number = decode_number::<4>(field)?;
    Ok(u32::try_from(number).expect("a number of 4 bytes"))
}

/// Returns the nanoseconds since 1970.
fn as_number(time: Timestamp) -> i128 {
    i128::from(time.seconds) * NANOSECONDS_PER_SECOND + i128::from(time.nanoseconds)
}

/// Decodes a number of nanoseconds after another time.
fn decode_time(field: &[u8], after: Timestamp) -> Result<Timestamp> {
    let time = as_number(after) + decode_signed::<TIME_MAX>(field)?;
    let seconds = i64::try_from(time.div_euclid(NANOSECONDS_PER_SECOND));
    let seconds = seconds.map_err(|_| damaged("a time", Value::Bytes(field.to_vec())))?;
    let nanoseconds = u32::try_from(time.rem_euclid(NANOSECONDS_PER_SECOND));
    Ok(Timestamp { seconds, nanoseconds: nanoseconds.expect("less than a second") })
}

fn check_inode(number: InodeNumber, inode: &Inode) -> Result<()> {
    let mode = inode.attributes.mode;
    if mode > MODE_MAX {
        return Err(damaged(0..=MODE_MAX, mode));
    }
    let (has_target, has_stream) = (inode.target.is_some(), inode.stream.is_some());
    let has_slice = inode.slice.is_some();
    let has_content = match inode.kind {
        EntryType::File => !(has_target || has_stream && has_slice),
        EntryType::Symlink => has_target != has_stream && !has_slice,
        _ => !has_target && !has_stream && !has_slice,
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
    if let Some(first) = inode.slice
        && first.checked_add(inode.size).is_none_or(|end| end > ADDRESS_MAX || inode.size == 0)
    {
        return Err(damaged(0..=ADDRESS_MAX, first));
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
    last: u8,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let short = || damaged("a complete field", "a truncated one");
        let (head, rest) = self.bytes.split_at_checked(tag_layout::SIZE).ok_or_else(short)?;
        let head = tag_layout::TAG.u16(head);
        let tag = u8::try_from(head >> LENGTH_BITS).expect("6 bits");
        let length = head & ((1 << LENGTH_BITS) - 1);
        let (field, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(short)?;
        if tag <= self.last {
            return Err(damaged("a higher tag than the previous one", tag));
        }
        (self.last, self.bytes) = (tag, rest);
        Ok(Some((tag, field)))
    }
}
