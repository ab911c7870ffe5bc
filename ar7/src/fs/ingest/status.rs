//! The status of an entry in the file system.

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, Device, EntryType, Origin};
use rustix::fs::Stat;

use crate::fs::system::{FileId, device_of, kind_of, links, nanoseconds, permissions};

/// The unit in which a status counts the space that a file takes.
const ALLOCATION_BYTES: u64 = 512;

/// The status of an entry in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// The type; `None` for one that an archive cannot store.
    pub(super) kind: Option<EntryType>,
    /// The attributes to store. The origin has the change time, which no program can set.
    pub(super) attributes: Attributes,
    pub(super) changed: Timestamp,
    pub(super) size: u64,
    /// Whether the file takes less space than its size, so that it may have holes.
    pub(super) is_sparse: bool,
    pub(super) id: FileId,
    pub(super) links: u64,
    /// The numbers of a device.
    pub(super) device: Option<Device>,
}

impl Status {
    pub(super) fn new(stat: &Stat) -> Status {
        let kind = kind_of(stat);
        let is_file = kind == Some(EntryType::File);
        let size = if is_file { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        let allocated = u64::try_from(stat.st_blocks).unwrap_or_default();
        let changed = timestamp(stat.st_ctime, stat.st_ctime_nsec);
        Status {
            kind,
            attributes: Attributes {
                mode: permissions(stat.st_mode),
                uid: stat.st_uid,
                gid: stat.st_gid,
                modified: timestamp(stat.st_mtime, stat.st_mtime_nsec),
                origin: Some(Origin { changed, inode: stat.st_ino }),
            },
            changed,
            size,
            is_sparse: allocated.saturating_mul(ALLOCATION_BYTES) < size,
            id: (stat.st_dev, stat.st_ino),
            links: links(stat.st_nlink),
            device: kind.filter(|kind| kind.is_device()).map(|_| device_of(stat)),
        }
    }

    /// Returns whether a file is unchanged between two looks at it, judging by size and mtime.
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

fn timestamp(seconds: i64, part: impl TryInto<u32>) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds(part) }
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
