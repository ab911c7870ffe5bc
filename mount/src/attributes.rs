//! Inodes of the archive as the kernel sees them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, Device, EntryType, Inode, InodeNumber};
use fuser::{FileAttr, FileType, INodeNo};

/// Bytes that a directory is said to have, and the unit in which programs should read and write.
const BLOCK_BYTES: u32 = 4096;

/// The unit of the number of blocks in a status.
const SECTOR_BYTES: u64 = 512;

/// Returns the type of an entry.
pub(crate) fn file_type(kind: EntryType) -> FileType {
    match kind {
        EntryType::File => FileType::RegularFile,
        EntryType::Directory => FileType::Directory,
        EntryType::Symlink => FileType::Symlink,
        EntryType::Fifo => FileType::NamedPipe,
        EntryType::Socket => FileType::Socket,
        EntryType::CharacterDevice => FileType::CharDevice,
        EntryType::BlockDevice => FileType::BlockDevice,
    }
}

/// Returns the status of an inode.
///
/// The archive stores no time of access, so that is the time of modification. A directory has one link, which programs
/// take for an unknown number of subdirectories.
pub(crate) fn status(number: InodeNumber, inode: &Inode) -> FileAttr {
    let is_directory = inode.kind == EntryType::Directory;
    let size = if is_directory { u64::from(BLOCK_BYTES) } else { inode.size };
    let modified = system_time(inode.attributes.modified);
    let changed = inode.attributes.origin.map_or(modified, |origin| system_time(origin.changed));
    FileAttr {
        ino: INodeNo(number.0),
        size,
        blocks: size.div_ceil(SECTOR_BYTES),
        atime: modified,
        mtime: modified,
        ctime: changed,
        crtime: UNIX_EPOCH,
        kind: file_type(inode.kind),
        perm: u16::try_from(inode.attributes.mode & 0o7777).unwrap_or_default(),
        nlink: if is_directory { 1 } else { inode.links },
        uid: inode.attributes.uid,
        gid: inode.attributes.gid,
        rdev: inode.device.map_or(0, device_number),
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// Returns the status of a file that the archive has no more.
pub(crate) fn status_of_removed(number: InodeNumber) -> FileAttr {
    let modified = Timestamp::default();
    let attributes = Attributes { mode: 0, uid: 0, gid: 0, modified, origin: None };
    let inode = Inode { links: 0, ..Inode::new(EntryType::File, attributes) };
    status(number, &inode)
}

/// Returns the number of a device, as the kernel's protocol encodes it.
fn device_number(Device { major, minor }: Device) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Returns a time of the archive. One that the system cannot represent is the beginning of 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let time = system_time(Timestamp { seconds: -2, nanoseconds: 1 });
        assert_eq!(UNIX_EPOCH.duration_since(time).unwrap(), Duration::new(1, 999_999_999));
        let time = system_time(Timestamp { seconds: 2, nanoseconds: 1 });
        assert_eq!(time.duration_since(UNIX_EPOCH).unwrap(), Duration::new(2, 1));
    }

    #[test]
    fn a_device_number_has_the_kernel_s_encoding() {
        assert_eq!(device_number(Device { major: 8, minor: 1 }), 0x801);
        assert_eq!(device_number(Device { major: 0x103, minor: 0x12345 }), 0x1231_0345);
    }
}
