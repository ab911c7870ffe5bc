//! The status of an entry in the file system.

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, Device, EntryType, Origin};
use rustix::fs::Stat;

use crate::fs::system::{FileId, device_of, kind_of, links, nanoseconds, permissions};

/// The time in seconds after a change for which another one may leave the same times behind: no file system counts in
/// larger steps.
const TICK_SECONDS: i64 = 2;

/// The unit in which a status counts the space that a file takes.
const ALLOCATION_BYTES: u64 = 512;

/// The status of an entry in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// The type; `None` for one that an archive cannot store.
    pub(crate) kind: Option<EntryType>,
    /// The attributes to store. Their origin has the change time, which no program can set. They have no origin after a
    /// recent change: a further change may leave the same times, so the next run must not judge by them.
    pub(crate) attributes: Attributes,
    pub(crate) changed: Timestamp,
    pub(crate) size: u64,
    /// Whether the file takes less space than its size, so that it may have holes.
    pub(crate) is_sparse: bool,
    pub(crate) id: FileId,
    pub(crate) links: u64,
    /// The numbers of a device.
    pub(crate) device: Option<Device>,
}

impl Status {
    /// The status that the system gave at or after `now`.
    pub(crate) fn new(stat: &Stat, now: Timestamp) -> Status {
        let kind = kind_of(stat);
        let is_file = kind == Some(EntryType::File);
        let size = if is_file { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        let allocated = u64::try_from(stat.st_blocks).unwrap_or_default();
        let changed = timestamp(stat.st_ctime, stat.st_ctime_nsec);
        let modified = timestamp(stat.st_mtime, stat.st_mtime_nsec);
        let is_old = changed.max(modified).seconds < now.seconds.saturating_sub(TICK_SECONDS);
        Status {
            kind,
            attributes: Attributes {
                mode: permissions(stat.st_mode),
                uid: stat.st_uid,
                gid: stat.st_gid,
                modified,
                origin: is_old.then_some(Origin { changed, inode: stat.st_ino }),
            },
            changed,
            size,
            is_sparse: allocated.saturating_mul(ALLOCATION_BYTES) < size,
            id: (stat.st_dev, stat.st_ino),
            links: links(stat.st_nlink),
            device: kind.filter(|kind| kind.is_device()).map(|_| device_of(stat)),
        }
    }

    /// Returns whether two looks saw one unchanged file, also if it was under two names. A program can set the mtime
    /// back, but not the change time. File systems reuse inode numbers of removed files, so the number alone is not
    /// enough.
    pub(crate) fn is_same_version(&self, other: &Status) -> bool {
        self.kind == other.kind
            && self.id == other.id
            && self.size == other.size
            && self.attributes.modified == other.attributes.modified
            && self.changed == other.changed
    }
}

fn timestamp(seconds: i64, part: impl TryInto<u32>) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds(part) }
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::Timestamp;

    use super::{Status, TICK_SECONDS};

    #[test]
    fn a_nanosecond_of_either_time_makes_another_version() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let status = Status::new(&rustix::fs::fstat(&file).expect("a status"), Timestamp::now());
        assert!(status.is_same_version(&status));
        let (mut modified, mut changed) = (status, status);
        modified.attributes.modified.nanoseconds ^= 1;
        changed.changed.nanoseconds ^= 1;
        assert!(!status.is_same_version(&modified) && !status.is_same_version(&changed));
    }

    #[test]
    fn a_recent_change_leaves_no_origin() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let stat = rustix::fs::fstat(&file).expect("a status");
        let seen_after = |seconds| {
            let now = Timestamp { seconds: stat.st_ctime + seconds, nanoseconds: 0 };
            Status::new(&stat, now).attributes.origin
        };
        assert_eq!(seen_after(TICK_SECONDS), None);
        assert_eq!(seen_after(TICK_SECONDS + 1).map(|origin| origin.inode), Some(stat.st_ino));
        // A clock that was set back, or that of another computer.
        assert_eq!(seen_after(-1000), None);
    }
}
