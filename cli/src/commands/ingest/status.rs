//! What the file system says of an entry.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, EntryType};

/// The identity of a file: its device and its inode there.
pub(super) type FileId = (u64, u64);

/// What the file system says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    pub(super) size: u64,
    pub(super) id: FileId,
    pub(super) links: u64,
}

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A type that an archive has.
    Stored(EntryType),
    /// A type that it does not have.
    Special(&'static str),
}

impl Status {
    pub(super) fn new(metadata: &Metadata) -> Status {
        let size = if metadata.is_file() { metadata.size() } else { 0 };
        Status {
            kind: kind_of(metadata),
            attributes: Attributes {
                mode: metadata.mode() & 0o7777,
                uid: metadata.uid(),
                gid: metadata.gid(),
                modified: Timestamp {
                    seconds: metadata.mtime(),
                    nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
                },
            },
            size,
            id: (metadata.dev(), metadata.ino()),
            links: metadata.nlink(),
        }
    }

    /// Whether the file is as it was, as far as size and mtime tell.
    pub(super) fn is_same_version(&self, other: &Status) -> bool {
        self.kind == other.kind
            && self.id == other.id
            && self.size == other.size
            && self.attributes.modified == other.attributes.modified
    }
}

fn kind_of(metadata: &Metadata) -> Kind {
    let kind = metadata.file_type();
    if kind.is_file() {
        Kind::Stored(EntryType::File)
    } else if kind.is_dir() {
        Kind::Stored(EntryType::Directory)
    } else if kind.is_symlink() {
        Kind::Stored(EntryType::Symlink)
    } else if kind.is_fifo() {
        Kind::Special("a fifo")
    } else if kind.is_socket() {
        Kind::Special("a socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Kind::Special("a device")
    } else {
        Kind::Special("of an unknown type")
    }
}
