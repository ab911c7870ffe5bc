//! Byte-range locks of an open file description (`F_OFD_SETLK` of Linux).

use std::fs::File;
use std::io;

use rustix::io::Errno;

/// The kind of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Next to other shared locks.
    Shared,
    /// The only lock.
    Exclusive,
    /// None.
    Unlocked,
}

/// Returns whether an error says that the system or the file system has no such locks. No other error does: a limit,
/// for example, may be gone at the next attempt.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];
    Errno::from_io_error(error).is_some_and(|error| refusals.contains(&error))
}

#[cfg(target_os = "linux")]
pub(super) use linux::{conflict, holder, is_supported, set};

#[cfg(not(target_os = "linux"))]
pub(super) use unsupported::{conflict, holder, is_supported, set};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use nix::fcntl::{FcntlArg, fcntl};

    use super::{File, Kind, io, is_refusal};

    /// File systems whose locks another machine, or another view of the same file, may not see: NFS, SMB and CIFS,
    /// FUSE, 9P (`statfs(2)`).
    const UNSHARED_LOCKS: [u64; 6] =
        [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997];

    /// Sets the locks of `length` bytes from `start`, or of all later bytes if `length` is 0. Returns false if another
    /// open file description has a conflicting lock.
    pub(in crate::device) fn set(
        file: &File,
        kind: Kind,
        start: u64,
        length: u64,
    ) -> io::Result<bool> {
        let lock = range(kind, start, length)?;
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(true),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the first byte of some lock of another open file description that conflicts with this one.
    pub(in crate::device) fn conflict(
        file: &File,
        kind: Kind,
        start: u64,
        length: u64,
    ) -> io::Result<Option<u64>> {
        let mut lock = range(kind, start, length)?;
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        let is_free = i32::from(lock.l_type) == libc::F_UNLCK;
        Ok((!is_free).then_some(u64::try_from(lock.l_start).unwrap_or(0)))
    }

    /// Returns whether the locks of this file are seen by every process that can open it. Tries it: a second open must
    /// see a lock of the first. Any failure other than a refusal is an error, because the next process may not have
    /// it.
    pub(in crate::device) fn is_supported(file: &File) -> io::Result<bool> {
        let kind = rustix::fs::fstatfs(file)?.f_type.cast_unsigned() & 0xffff_ffff;
        if UNSHARED_LOCKS.contains(&kind) {
            return Ok(false);
        }
        // A byte of its own below the range of the protocol, so that no other process is disturbed.
        let byte = (1 << 61) + u64::from(std::process::id());
        match set(file, Kind::Shared, byte, 1) {
            Err(error) if is_refusal(&error) => return Ok(false),
            outcome => outcome?,
        };
        let seen = is_seen(file, byte);
        set(file, Kind::Unlocked, byte, 1)?;
        seen
    }

    /// Returns whether another open file description sees a lock of this byte.
    fn is_seen(file: &File, byte: u64) -> io::Result<bool> {
        match File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
            Ok(second) => Ok(conflict(&second, Kind::Exclusive, byte, 1)?.is_some()),
            // Without /proc, the file cannot be opened again. The system accepted the lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Returns the process that holds an exclusive lock of byte `start`, if the system shows it: the lock itself names
    /// no process.
    pub(in crate::device) fn holder(file: &File, start: u64) -> Option<u32> {
        let metadata = file.metadata().ok()?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let place = format!("{major:02x}:{minor:02x}:{inode} ");
        let is_it = |line: &str| {
            let mut words = line.split_ascii_whitespace().rev();
            line.starts_with("lock:")
                && line.contains("OFDLCK")
                && line.contains(" WRITE ")
                && line.contains(&place)
                && words.nth(1).and_then(|first| first.parse().ok()) == Some(start)
        };
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.find(|process: &u32| {
            let descriptors = Path::new("/proc").join(process.to_string()).join("fdinfo");
            let Ok(descriptors) = fs::read_dir(descriptors) else { return false };
            let texts = descriptors.flatten().filter_map(|one| fs::read_to_string(one.path()).ok());
            texts.into_iter().any(|text| text.lines().any(is_it))
        })
    }

    fn range(kind: Kind, start: u64, length: u64) -> io::Result<libc::flock> {
        let offset = |value: u64| {
            i64::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
        };
        let kind = match kind {
            Kind::Shared => libc::F_RDLCK,
            Kind::Exclusive => libc::F_WRLCK,
            Kind::Unlocked => libc::F_UNLCK,
        };
        Ok(libc::flock {
            l_type: i16::try_from(kind).expect("a small constant"),
            l_whence: i16::try_from(libc::SEEK_SET).expect("a small constant"),
            l_start: offset(start)?,
            l_len: offset(length)?,
            l_pid: 0,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod unsupported {
    use super::{File, Kind, io};

    pub(in crate::device) fn set(_: &File, _: Kind, _: u64, _: u64) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::device) fn conflict(
        _: &File,
        _: Kind,
        _: u64,
        _: u64,
    ) -> io::Result<Option<u64>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::device) fn is_supported(_: &File) -> io::Result<bool> {
        Ok(false)
    }

    pub(in crate::device) fn holder(_: &File, _: u64) -> Option<u32> {
        None
    }
}
