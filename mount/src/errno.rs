//! Errors of the archive as errors of the system.

use ar7_engine::{Class, Error as EngineError};
use ar7_registry::Error;
use fuser::Errno;

/// Returns the error that a program gets.
pub(crate) fn errno(error: &Error) -> Errno {
    match error {
        Error::NoEntry { .. } => Errno::ENOENT,
        // The kernel then looks the path up again.
        Error::NoInode { .. } => Errno::ESTALE,
        Error::EntryExists { .. } => Errno::EEXIST,
        Error::NotEmpty { .. } => Errno::ENOTEMPTY,
        Error::NameLength { .. } => Errno::ENAMETOOLONG,
        Error::WrongEntryType { needed: "a directory", .. } => Errno::ENOTDIR,
        Error::WrongEntryType { found: "a directory", .. } => Errno::EISDIR,
        Error::IntoItself { .. } | Error::InvalidName { .. } | Error::WrongEntryType { .. } => {
            Errno::EINVAL
        }
        Error::AlreadyOpen { .. } => Errno::EBUSY,
        Error::KindForbids { .. } => Errno::EPERM,
        Error::Engine(error) => of_engine(error),
        _ => Errno::EIO,
    }
}

fn of_engine(error: &EngineError) -> Errno {
    match error {
        EngineError::ReadOnly => Errno::EROFS,
        EngineError::Full { what: "names of an inode", .. } => Errno::EMLINK,
        EngineError::Full { what: "length of a stream in bytes", .. } => Errno::EFBIG,
        EngineError::Full { .. } => Errno::ENOSPC,
        EngineError::OutOfBounds { what, .. } if what.contains("symbolic link") => {
            Errno::ENAMETOOLONG
        }
        EngineError::OutOfBounds { what, .. } if what.contains("all extended") => Errno::ENOSPC,
        EngineError::OutOfBounds { what, .. } if what.contains("extended") => Errno::E2BIG,
        EngineError::OutOfBounds { .. } => Errno::EINVAL,
        // After a failed write, the archive fails with its cause: it is no longer the disk that is full.
        EngineError::Poisoned { .. } => Errno::EIO,
        error => match error.class() {
            Class::NoSpace => Errno::ENOSPC,
            Class::HeldByReaders => Errno::EBUSY,
            _ => Errno::EIO,
        },
    }
}

/// Why a change was refused.
#[derive(Debug)]
pub(crate) enum Failure {
    Archive(Error),
    System(Errno),
}

impl Failure {
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Failure::Archive(error) => errno(error),
            Failure::System(error) => *error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Archive(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Failure {
        Failure::System(error)
    }
}

#[cfg(test)]
mod tests {
    use ar7_engine::Check;
    use ar7_engine::crypto::{RawKey, Secret};
    use ar7_engine::device::MemoryDevice;
    use ar7_engine::format::Timestamp;
    use ar7_registry::records::{Attributes, ExtendedAttribute, InodeNumber};
    use ar7_registry::{Archive, CreateOptions};

    use super::*;

    /// Errors that calls return, so that a change of their text does not change what a program gets.
    #[test]
    fn each_refusal_of_the_archive_has_its_own_error() {
        let secret = Secret::Key(RawKey::from_bytes([1; 32]));
        let options = CreateOptions::default();
        let device = Box::new(MemoryDevice::new());
        let archive = Archive::create_device(device, &secret, &options).expect("created");
        let names = archive.names();
        let modified = Timestamp::default();
        let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, modified, origin: None };
        let root = InodeNumber::ROOT;
        let file = names.add_file(root, b"file", attributes, None).expect("a file");
        let directory = names.make_directory(root, b"full", attributes).expect("a directory");
        names.add_file(directory, b"inside", attributes, None).expect("a file");
        let add = |parent, name: &[u8]| names.add_file(parent, name, attributes, None).map(drop);
        let link = |target: &[u8]| names.add_symlink(root, b"link", attributes, target).map(drop);
        let set = |sizes: &[usize]| {
            let named = |(at, &size): (usize, &usize)| {
                ExtendedAttribute::new(format!("user.{at:02}").as_bytes(), vec![7; size])
            };
            let extended: Vec<_> = sizes.iter().enumerate().map(named).collect();
            names.set_extended_attributes(file, &extended)
        };
        let mut stream = archive.new_stream().expect("a stream");
        let odd = Timestamp { nanoseconds: u32::MAX, ..modified };
        let table = [
            (add(root, b"file"), Errno::EEXIST),
            (add(file, b"below"), Errno::ENOTDIR),
            (add(InodeNumber(99), b"nowhere"), Errno::ESTALE),
            (add(root, &[b'n'; 256]), Errno::ENAMETOOLONG),
            (add(root, b"a/b"), Errno::EINVAL),
            (link(&b"t".repeat(1 << 20)), Errno::ENAMETOOLONG),
            (names.remove(root, b"missing"), Errno::ENOENT),
            (names.remove(root, b"full"), Errno::ENOTEMPTY),
            (names.rename((root, b"full"), (directory, b"in"), false), Errno::EINVAL),
            (names.set_attributes(file, Attributes { modified: odd, ..attributes }), Errno::EINVAL),
            (set(&[(64 << 10) + 1]), Errno::E2BIG),
            (set(&[60 << 10; 20]), Errno::ENOSPC),
            (stream.set_len(1 << 62), Errno::EFBIG),
            (archive.open_stream(stream.identity()).map(drop), Errno::EBUSY),
        ];
        for (at, (outcome, expected)) in table.into_iter().enumerate() {
            let error = outcome.expect_err("refused");
            assert_eq!(errno(&error), expected, "row {at}: {error:?}");
        }
    }

    #[test]
    fn each_failure_of_the_archive_has_its_own_error() {
        let no_space = || std::io::Error::from_raw_os_error(28).into();
        let damaged = || EngineError::damaged(None, Check::Tag, 1, 2);
        let table = [
            (EngineError::NoSpace { needed_blocks: 1, source: no_space() }, Errno::ENOSPC),
            (EngineError::Full { what: "number of blocks", limit: 1 }, Errno::ENOSPC),
            (EngineError::Full { what: "names of an inode", limit: 1 }, Errno::EMLINK),
            (EngineError::HeldByReaders { oldest: 1, entries: 1, blocks: 1 }, Errno::EBUSY),
            (EngineError::ReadOnly, Errno::EROFS),
            (damaged(), Errno::EIO),
            (EngineError::io("read", std::io::Error::from_raw_os_error(5)), Errno::EIO),
            (EngineError::Poisoned { cause: damaged().into() }, Errno::EIO),
        ];
        for (error, expected) in table {
            assert_eq!(errno(&error.clone().into()), expected, "{error:?}");
        }
    }
}
