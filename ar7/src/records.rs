//! The records that an archive returns.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ar7_engine::format::{self, Generation, StoredStream};
use ar7_registry::packs::needs_repacking;
use ar7_registry::records::{self, EntryType, Extended, Inode, InodeNumber};
use uuid::Uuid;

use crate::count::Count;
use crate::named::named;
use crate::text::PathText;

/// A point in time, in seconds and nanoseconds since 1970-01-01 UTC.
///
/// `Display` gives it in UTC as in RFC 3339, or as `seconds.nanoseconds` if it is outside of the calendar's years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after that second, below 10^9.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Creates a time. Nanoseconds of 10^9 or more count as further seconds.
    pub fn new(seconds: i64, nanoseconds: u32) -> Timestamp {
        const SECOND: u32 = 1_000_000_000;
        let more = i64::from(nanoseconds / SECOND);
        Timestamp { seconds: seconds.saturating_add(more), nanoseconds: nanoseconds % SECOND }
    }

    /// Returns the current time.
    pub fn now() -> Timestamp {
        SystemTime::now().into()
    }

    /// Returns the time of the system's type, or `None` if that type cannot represent it.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let second = if self.seconds < 0 {
            UNIX_EPOCH.checked_sub(whole)
        } else {
            UNIX_EPOCH.checked_add(whole)
        };
        second?.checked_add(Duration::from_nanos(u64::from(self.nanoseconds)))
    }

    pub(crate) fn of_format(self) -> format::Timestamp {
        format::Timestamp { seconds: self.seconds, nanoseconds: self.nanoseconds }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timestamp { seconds, nanoseconds } = *self;
        // Nanoseconds count forwards, even before 1970.
        let whole = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        match jiff::Timestamp::from_nanosecond(whole) {
            Ok(time) => time.fmt(formatter),
            Err(_) => write!(formatter, "{seconds}.{nanoseconds:09}"),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<format::Timestamp> for Timestamp {
    fn from(time: format::Timestamp) -> Timestamp {
        Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let whole = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::new(whole(since), since.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let seconds = whole(before).saturating_neg();
                match before.subsec_nanos() {
                    0 => Timestamp::new(seconds, 0),
                    nanoseconds => {
                        Timestamp::new(seconds.saturating_sub(1), 1_000_000_000 - nanoseconds)
                    }
                }
            }
        }
    }
}

/// Permissions, owner, modification time and origin of an entry. The library stores and returns
/// them, but gives them no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Attributes {
    /// Permission bits, at most 0o7777. Higher bits are not stored.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialized::mode"))]
    pub mode: u32,
    /// Number of the owner.
    #[cfg_attr(feature = "serde", serde(rename = "uid"))]
    pub user: u32,
    /// Number of the group.
    #[cfg_attr(feature = "serde", serde(rename = "gid"))]
    pub group: u32,
    /// Time of the last change of the content.
    pub modified: Timestamp,
    /// The state of the source from which the entry was stored, if there is one. A later change of
    /// the content removes it.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub origin: Option<Origin>,
}

/// What an entry's source was like when it was stored. While a file has the same change time, inode
/// number, modification time and length as then, it is safe to assume that its content is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Origin {
    /// Time of the last change of the source's content or attributes (ctime).
    pub changed: Timestamp,
    /// Inode number of the source in its file system.
    pub inode: u64,
}

impl Origin {
    /// Returns the origin with this change time and inode number.
    pub fn new(changed: impl Into<Timestamp>, inode: u64) -> Origin {
        Origin { changed: changed.into(), inode }
    }
}

impl Attributes {
    /// Returns the attributes of an entry that this process makes now: its effective user and group own it.
    pub fn of_process(mode: u32) -> Attributes {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        Attributes::now(mode).with_owner(user.as_raw(), group.as_raw())
    }

    /// Returns the attributes with other permission bits.
    #[must_use]
    pub fn with_mode(self, mode: u32) -> Attributes {
        Attributes { mode, ..self }
    }

    /// Returns the attributes with another owner and group.
    #[must_use]
    pub fn with_owner(self, user: u32, group: u32) -> Attributes {
        Attributes { user, group, ..self }
    }

    /// Returns the attributes with another modification time.
    #[must_use]
    pub fn with_modified(self, modified: impl Into<Timestamp>) -> Attributes {
        Attributes { modified: modified.into(), ..self }
    }

    /// Returns the attributes with another origin, or without one.
    #[must_use]
    pub fn with_origin(self, origin: impl Into<Option<Origin>>) -> Attributes {
        Attributes { origin: origin.into(), ..self }
    }

    /// Returns the attributes of an entry whose content changes now.
    pub(crate) fn changed_now(self) -> Attributes {
        self.with_modified(Timestamp::now()).with_origin(None)
    }

    /// Returns the attributes of an entry that is made now.
    pub(crate) fn now(mode: u32) -> Attributes {
        Attributes::default().with_mode(mode).with_modified(Timestamp::now())
    }

    pub(crate) fn of_registry(self) -> records::Attributes {
        let Attributes { mode, user, group, modified, origin } = self;
        let origin = origin.map(|Origin { changed, inode }| records::Origin {
            changed: changed.of_format(),
            inode,
        });
        let modified = modified.of_format();
        records::Attributes { mode, uid: user, gid: group, modified, origin }
    }
}

impl Default for Attributes {
    /// Returns mode 0o644, owner and group 0, the time 0, and no origin.
    fn default() -> Attributes {
        let modified = Timestamp::default();
        Attributes { mode: 0o644, user: 0, group: 0, modified, origin: None }
    }
}

impl From<records::Attributes> for Attributes {
    fn from(attributes: records::Attributes) -> Attributes {
        let records::Attributes { mode, uid, gid, modified, origin } = attributes;
        let origin = origin.map(|records::Origin { changed, inode }| Origin::new(changed, inode));
        Attributes { mode, user: uid, group: gid, modified: modified.into(), origin }
    }
}

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum FileType {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket of the file system.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

named!(FileType {
    File => "file",
    Directory => "directory",
    Symlink => "symlink",
    Fifo => "fifo",
    Socket => "socket",
    CharacterDevice => "character-device",
    BlockDevice => "block-device",
});

impl From<EntryType> for FileType {
    fn from(kind: EntryType) -> FileType {
        match kind {
            EntryType::File => FileType::File,
            EntryType::Directory => FileType::Directory,
            EntryType::Symlink => FileType::Symlink,
            EntryType::Fifo => FileType::Fifo,
            EntryType::Socket => FileType::Socket,
            EntryType::CharacterDevice => FileType::CharacterDevice,
            EntryType::BlockDevice => FileType::BlockDevice,
        }
    }
}

/// The numbers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Device {
    /// Number of the driver.
    pub major: u32,
    /// Number of the device among those of its driver.
    pub minor: u32,
}

/// An entry without content. See [`crate::Transaction::create_special`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A socket of the file system.
    Socket,
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
}

impl Special {
    pub(crate) fn of_registry(self) -> (EntryType, Option<records::Device>) {
        let of = |Device { major, minor }| Some(records::Device { major, minor });
        match self {
            Special::Fifo => (EntryType::Fifo, None),
            Special::Socket => (EntryType::Socket, None),
            Special::CharacterDevice(device) => (EntryType::CharacterDevice, of(device)),
            Special::BlockDevice(device) => (EntryType::BlockDevice, of(device)),
        }
    }
}

/// What an archive knows about an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Metadata {
    /// The type.
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub file_type: FileType,
    /// Length of the content, or of a symbolic link's target, in bytes. 0 for other entries.
    #[cfg_attr(feature = "serde", serde(rename = "size"))]
    pub len: u64,
    /// Permissions, owner, modification time and origin.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub attributes: Attributes,
    /// Number of names of the entry.
    pub links: u32,
    /// Number of the inode. All names of a file have the same one.
    pub inode: u64,
    /// The stream with the content, or with a long target. An empty file may have none.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serialized::optional_text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub stream: Option<Uuid>,
    /// The numbers of a device.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub device: Option<Device>,
    /// Whether the entry has extended attributes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "std::ops::Not::not"))]
    pub has_extended_attributes: bool,
}

impl Metadata {
    pub(crate) fn new(number: InodeNumber, inode: &Inode) -> Metadata {
        Metadata {
            file_type: inode.kind.into(),
            len: inode.size,
            attributes: inode.attributes.into(),
            links: inode.links,
            inode: number.0,
            stream: inode.stream,
            device: inode.device.map(|records::Device { major, minor }| Device { major, minor }),
            has_extended_attributes: inode.extended != Extended::None,
        }
    }

    /// Returns whether the entry is a file.
    pub fn is_file(&self) -> bool {
        self.file_type == FileType::File
    }

    /// Returns whether the entry is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Returns whether the entry is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type == FileType::Symlink
    }
}

/// An entry of a directory, with its path from the root of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Entry {
    /// The path, without a slash at the beginning.
    #[cfg_attr(feature = "serde", serde(flatten, serialize_with = "crate::serialized::path"))]
    pub path: PathBuf,
    /// What the archive knows about the entry.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub metadata: Metadata,
}

impl Entry {
    /// Returns the last component of the path.
    pub fn name(&self) -> &Path {
        self.path.file_name().map_or(&self.path, Path::new)
    }
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StreamInfo {
    /// The identity.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "stream", serialize_with = "crate::serialized::text")
    )]
    pub id: Uuid,
    /// Length in bytes.
    #[cfg_attr(feature = "serde", serde(rename = "size"))]
    pub len: u64,
    /// Number of blocks, of 4096 bytes each.
    pub blocks: u32,
    /// Number of the inode whose content it is, if it has one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub inode: Option<u64>,
}

impl From<&StoredStream> for StreamInfo {
    fn from(stored: &StoredStream) -> StreamInfo {
        StreamInfo {
            id: stored.record.identity,
            len: stored.record.length,
            blocks: stored.record.count,
            inode: stored.inode.map(std::num::NonZeroU64::get),
        }
    }
}

/// Sizes and counts of an archive, as of the newest commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Statistics {
    /// Number of the commit.
    pub commit: u64,
    /// Generation of the commit: when its writer began and what it did since.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialized::text"))]
    pub generation: Generation,
    /// Number of streams, not counting packs.
    pub streams: u64,
    /// Number of extents of streams with more than one run of blocks.
    pub extents: u64,
    /// Number of deleted streams whose blocks are not all free yet.
    pub pending_deletions: u64,
    /// Number of names.
    pub names: u64,
    /// Number of files, directories and other entries, not counting further names.
    pub inodes: u64,
    /// Number of blocks in use or free, of 4096 bytes each.
    pub blocks: u32,
    /// Number of free blocks.
    pub free_blocks: u64,
    /// Index pages of which one bad MiB could destroy both copies. In a file over 2 MiB, each commit
    /// moves some of them.
    pub near_pages: u64,
    /// Number of packs, which are streams with the compressed content of many files.
    pub packs: u64,
    /// Number of bytes that content takes in packs.
    pub packed_bytes: u64,
    /// How many of these bytes belong to no file any more. Commits move content until it is a quarter at most.
    pub dead_bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
}

impl Statistics {
    /// Returns a warning if over a quarter of the bytes in packs is dead. A commit gives their space back only if there is
    /// room to move the content next to them.
    pub fn dead_content(&self) -> Option<String> {
        let Statistics { packed_bytes, dead_bytes, .. } = *self;
        needs_repacking(dead_bytes, packed_bytes).then(|| {
            format!(
                "deleted content still takes {dead_bytes} of {packed_bytes} bytes in packs: with more free space, \
                 another change gives them back"
            )
        })
    }
}

impl From<ar7_registry::Statistics> for Statistics {
    fn from(found: ar7_registry::Statistics) -> Statistics {
        Statistics {
            commit: found.commit,
            generation: found.generation,
            streams: found.streams,
            extents: found.extents,
            pending_deletions: found.pending_deletions,
            names: found.names,
            inodes: found.inodes,
            blocks: found.blocks,
            free_blocks: found.free_blocks,
            near_pages: found.near_pages,
            packs: found.packs,
            packed_bytes: found.packed_bytes,
            dead_bytes: found.dead_bytes,
            file_bytes: found.file_bytes,
        }
    }
}

/// A key slot in use. Every field is visible without the key. `Display` gives all of them in one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeySlot {
    /// Number of the slot, from 0.
    pub number: usize,
    /// The label.
    pub label: String,
    /// Whether it takes a passphrase; otherwise a raw key.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "kind", serialize_with = "crate::serialized::key_kind")
    )]
    pub is_passphrase: bool,
    /// For a passphrase, the memory of its derivation in KiB.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub memory_kib: Option<u32>,
    /// For a passphrase, the number of passes of its derivation.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub passes: Option<u32>,
    /// For a passphrase, the number of lanes of its derivation.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub lanes: Option<u32>,
}

impl KeySlot {
    /// Returns what the slot takes.
    pub(crate) fn kind(is_passphrase: bool) -> &'static str {
        if is_passphrase { "passphrase" } else { "key file" }
    }
}

impl fmt::Display for KeySlot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeySlot { number, label, is_passphrase, memory_kib, passes, lanes } = self;
        write!(formatter, "{number}: {}", KeySlot::kind(*is_passphrase))?;
        if let (Some(memory), Some(passes), Some(lanes)) = (memory_kib, passes, lanes) {
            let (passes, lanes) = (Count((*passes).into(), "pass"), Count((*lanes).into(), "lane"));
            write!(formatter, ", Argon2id {memory} KiB, {passes}, {lanes}")?;
        }
        if !label.is_empty() {
            write!(formatter, ", \"{}\"", PathText::new(label))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_to_the_nanosecond() {
        let text = |seconds, nanoseconds| Timestamp::new(seconds, nanoseconds).to_string();
        assert_eq!(text(0, 5), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(text(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        assert_eq!(text(i64::MAX, 1), "9223372036854775807.000000001");
    }

    #[test]
    fn a_key_slot_is_one_line_with_its_costs_and_its_label() {
        let slot = |label: &str, cost| KeySlot {
            number: 1,
            label: label.to_owned(),
            is_passphrase: cost,
            memory_kib: cost.then_some(64),
            passes: cost.then_some(3),
            lanes: cost.then_some(2),
        };
        assert_eq!(slot("", false).to_string(), "1: key file");
        let expected = r#"1: passphrase, Argon2id 64 KiB, 3 passes, 2 lanes, "a\nb""#;
        assert_eq!(slot("a\nb", true).to_string(), expected);
    }

    #[test]
    fn a_time_of_the_system_converts_both_ways() {
        let nanosecond = Duration::from_nanos(1);
        for since in [Duration::ZERO, nanosecond, Duration::new(5, 999_999_999)] {
            for time in [UNIX_EPOCH + since, UNIX_EPOCH - since] {
                assert_eq!(Timestamp::from(time).to_system_time(), Some(time));
            }
        }
        let before = Timestamp::from(UNIX_EPOCH - nanosecond);
        assert_eq!((before.seconds, before.nanoseconds), (-1, 999_999_999));
        assert_eq!(Timestamp::new(1, 2_000_000_003), Timestamp { seconds: 3, nanoseconds: 3 });
        assert!(Timestamp::default() > before);
    }
}
