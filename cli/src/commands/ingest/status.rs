//! The status of an entry in the file system.

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, EntryType, NANOSECONDS_MAX};
use rustix::fs::{Dev, FileType, Stat};

/// The identity of a file: device and inode number.
pub(super) type FileId = (Dev, u64);

/// The status of an entry in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    /// The ctime: when the inode last changed. No program can set it.
    pub(super) changed: Timestamp,
    pub(super) size: u64,
    pub(super) id: FileId,
    pub(super) links: u64,
}

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A type that an archive can store.
    Stored(EntryType),
    /// A type that an archive cannot store.
    Special(&'static str),
}

impl Status {
    pub(super) fn new(stat: &Stat) -> Status {
        let kind = kind_of(stat);
        let is_file = kind == Kind::Stored(EntryType::File);
        let size = if is_file { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        Status {
            kind,
            attributes: Attributes {
                mode: permissions(stat.st_mode),
                uid: stat.st_uid,
                gid: stat.st_gid,
                modified: timestamp(stat.st_mtime, stat.st_mtime_nsec),
                origin: None,
            },
            changed: timestamp(stat.st_ctime, stat.st_ctime_nsec),
            size,
            id: (stat.st_dev, stat.st_ino),
            links: number_of_links(stat.st_nlink),
        }
    }

    /// Returns whether the file is unchanged, judging by size and mtime.
    pub(super) fn is_same_version(&self, other: &Status) -> bool {
        self.kind == other.kind
            && self.id == other.id
            && self.size == other.size
            && self.attributes.modified == other.attributes.modified
    }

    /// Returns whether two names belong to one unchanged file. File systems reuse inode numbers of removed files, so
    /// the number alone is not enough.
    pub(super) fn is_same_file(&self, other: &Status) -> bool {
        self.is_same_version(other) && self.changed == other.changed
    }
}

/// Returns the permissions in a mode, whose type has 16 bits on macOS and 32 on Linux.
fn permissions(mode: impl Into<u32>) -> u32 {
    mode.into() & 0o7777
}

/// Widens a number of links, whose type differs between systems and processors.
fn number_of_links(links: impl Into<u64>) -> u64 {
    links.into()
}

/// Converts a time. Drops nanoseconds of a full second or more, which a faulty file system may report.
fn timestamp(seconds: i64, nanoseconds: impl TryInto<u32>) -> Timestamp {
    let nanoseconds = nanoseconds.try_into().ok().filter(|&part| part <= NANOSECONDS_MAX);
    Timestamp { seconds, nanoseconds: nanoseconds.unwrap_or_default() }
}

fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Stored(EntryType::File),
        FileType::Directory => Kind::Stored(EntryType::Directory),
        FileType::Symlink => Kind::Stored(EntryType::Symlink),
        FileType::Fifo => Kind::Special("a fifo"),
        FileType::Socket => Kind::Special("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Kind::Special("a device"),
        FileType::Unknown => Kind::Special("of an unknown type"),
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn a_nanosecond_makes_another_version() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let status = Status::new(&rustix::fs::fstat(&file).expect("a status"));
        assert!(status.is_same_version(&status));
        let mut later = status;
        later.attributes.modified.nanoseconds ^= 1;
        assert!(!status.is_same_version(&later));
        // A change of the mode alone does not change the content.
        let mut closed = status;
        closed.attributes.mode ^= 0o777;
        assert!(status.is_same_version(&closed));
    }
}
