//! The calls with which an extraction changes the file system, and a comparison reads it.
//!
//! Every call is relative to the descriptor of a directory, or takes the descriptor of the entry itself. None follows a
//! symbolic link, so no name or link in an archive, and no change by another process, can lead outside.
//!
//! Every call goes through [`System`], so that a test can fail any of them or change the tree before it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ar7_registry::records::{Device, EntryType, NANOSECONDS_MAX};
use rustix::fs::{
    AtFlags, CWD, Dev, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
    Uid, chmodat, chownat, fchmod, fchown, fstat, ftruncate, futimens, linkat, major, minor,
    mkdirat, openat, readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use xattr::FileExt as _;

use super::tree::{Opens, replaced};
use crate::records::Timestamp;

/// The identity of a file: its device and its inode number.
pub(crate) type FileId = (Dev, u64);

pub(super) const DIRECTORY_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const NEW_FILE_FLAGS: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A fifo neither blocks nor is read from, and a terminal does not become that of this process.
pub(super) const FILE_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The status of an entry in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) kind: Option<EntryType>,
    /// The permission bits.
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) group: u32,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    pub(crate) id: FileId,
    pub(crate) links: u64,
    pub(crate) device: Device,
}

impl Status {
    fn new(stat: &Stat) -> Status {
        Status {
            kind: kind_of(stat),
            mode: permissions(stat.st_mode),
            owner: stat.st_uid,
            group: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: Timestamp::new(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            id: (stat.st_dev, stat.st_ino),
            links: links(stat.st_nlink),
            device: device_of(stat),
        }
    }
}

/// Returns the permission bits of a mode, whose type has 16 bits on macOS and 32 on Linux.
pub(super) fn permissions(mode: impl Into<u32>) -> u32 {
    mode.into() & 0o7777
}

/// Widens a number of links, whose type differs between systems and processors.
pub(super) fn links(links: impl Into<u64>) -> u64 {
    links.into()
}

/// Drops nanoseconds of a full second or more, which a faulty file system may report.
pub(super) fn nanoseconds(nanoseconds: impl TryInto<u32>) -> u32 {
    nanoseconds.try_into().ok().filter(|&part| part <= NANOSECONDS_MAX).unwrap_or_default()
}

/// Returns the numbers of a device.
pub(super) fn device_of(stat: &Stat) -> Device {
    Device { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
}

/// Returns the type of an entry, or `None` if an archive has none for it.
pub(super) fn kind_of(stat: &Stat) -> Option<EntryType> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(EntryType::File),
        FileType::Directory => Some(EntryType::Directory),
        FileType::Symlink => Some(EntryType::Symlink),
        FileType::Fifo => Some(EntryType::Fifo),
        FileType::Socket => Some(EntryType::Socket),
        FileType::CharacterDevice => Some(EntryType::CharacterDevice),
        FileType::BlockDevice => Some(EntryType::BlockDevice),
        FileType::Unknown => None,
    }
}

/// A held entry: its attributes can be set even if its name refers to another entry by then.
pub(crate) enum Handle {
    /// An open file or directory.
    Open(File),
    /// Any other entry, which opening would follow, block on, or let act.
    #[cfg(target_os = "linux")]
    Held(OwnedFd),
    /// Any other entry, by its name, where the system has no such descriptors.
    #[cfg(not(target_os = "linux"))]
    Named(OwnedFd, Vec<u8>),
}

/// The calls of the operating system.
#[derive(Default)]
pub(crate) struct System {
    /// What happens before each call.
    #[cfg(test)]
    pub(crate) disturbance: Option<std::sync::Arc<dyn Fn() -> io::Result<()> + Send + Sync>>,
    /// What the file system is made to lack.
    #[cfg(test)]
    pub(crate) lacks: Vec<Feature>,
}

/// What some file systems lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Files without names.
    Unnamed,
    /// Names for files without names.
    Naming,
    /// Renaming that fails if the new name exists.
    RenameNew,
}

impl System {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests fail calls here")]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        self.disturbance.as_ref().map_or(Ok(()), |disturbance| disturbance())
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests take features away here"
    )]
    fn need(&self, _: Feature) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn need(&self, feature: Feature) -> io::Result<()> {
        if self.lacks.contains(&feature) { Err(Errno::OPNOTSUPP.into()) } else { Ok(()) }
    }

    /// Makes a call, and repeats it for as long as a signal interrupts it.
    fn call<R>(&self, call: impl Fn() -> io::Result<R>) -> io::Result<R> {
        loop {
            match self.step().and_then(|()| call()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// Opens a directory by a path that the user typed. Symbolic links are followed.
    pub(crate) fn open_typed(&self, path: &Path) -> io::Result<OwnedFd> {
        self.call(|| {
            let flags = DIRECTORY_FLAGS.difference(OFlags::NOFOLLOW);
            Ok(openat(CWD, path, flags, Mode::empty())?)
        })
    }

    /// Opens a directory by its name in another, or its parent as `..`.
    pub(crate) fn open_directory(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
        self.call(|| Ok(openat(at, OsStr::from_bytes(name), DIRECTORY_FLAGS, Mode::empty())?))
    }

    /// Returns the status of the entry of this name.
    pub(crate) fn status(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<Status> {
        self.call(|| {
            let stat = statat(at, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(Status::new(&stat))
        })
    }

    /// Returns the status of the entry of this name, or `None` if the name does not exist.
    pub(crate) fn status_if_there(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
    ) -> io::Result<Option<Status>> {
        match self.status(at, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Returns the status of an open file or directory.
    pub(crate) fn status_of(&self, file: impl AsFd) -> io::Result<Status> {
        self.call(|| Ok(Status::new(&fstat(file.as_fd())?)))
    }

    /// Creates a directory that only its owner may enter.
    pub(crate) fn make_directory(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        self.call(|| Ok(mkdirat(at, OsStr::from_bytes(name), Mode::RWXU)?))
    }

    /// Creates a file that only its owner may read. Fails if the name exists.
    pub(crate) fn make_file(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
        self.call(|| {
            let mode = Mode::RUSR | Mode::WUSR;
            Ok(openat(at, OsStr::from_bytes(name), NEW_FILE_FLAGS, mode)?.into())
        })
    }

    /// Creates a file without a name that only its owner may read. It disappears when it is closed, unless
    /// [`System::name`] gives it a name.
    #[cfg(target_os = "linux")]
    pub(crate) fn make_unnamed(&self, at: BorrowedFd<'_>) -> io::Result<File> {
        self.call(|| {
            self.need(Feature::Unnamed)?;
            let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
            Ok(openat(at, ".", flags, Mode::RUSR | Mode::WUSR)?.into())
        })
    }

    /// Fails, because the system has no files without names.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn make_unnamed(&self, _: BorrowedFd<'_>) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives a file without a name its name. Fails if the name exists.
    #[cfg(target_os = "linux")]
    pub(crate) fn name(&self, file: &File, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        self.call(|| {
            self.need(Feature::Naming)?;
            let name = OsStr::from_bytes(name);
            match linkat(file, "", at, name, AtFlags::EMPTY_PATH) {
                // Before Linux 6.10, this needs a right that only root has.
                Err(Errno::NOENT) => {
                    Ok(linkat(CWD, itself(file), at, name, AtFlags::SYMLINK_FOLLOW)?)
                }
                outcome => Ok(outcome?),
            }
        })
    }

    /// Fails, because the system has no files without names.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn name(&self, _: &File, _: BorrowedFd<'_>, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Creates a symbolic link. Fails if the name exists.
    pub(crate) fn make_symlink(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        target: &[u8],
    ) -> io::Result<()> {
        self.call(|| Ok(symlinkat(OsStr::from_bytes(target), at, OsStr::from_bytes(name))?))
    }

    /// Creates a fifo, a socket or a device, which only its owner may open. Fails if the name exists.
    #[cfg(not(target_vendor = "apple"))]
    pub(crate) fn make_special(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        kind: EntryType,
        device: Device,
    ) -> io::Result<()> {
        self.call(|| {
            let kind = match kind {
                EntryType::Fifo => FileType::Fifo,
                EntryType::Socket => FileType::Socket,
                EntryType::CharacterDevice => FileType::CharacterDevice,
                EntryType::BlockDevice => FileType::BlockDevice,
                EntryType::File | EntryType::Directory | EntryType::Symlink => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            };
            let device = rustix::fs::makedev(device.major, device.minor);
            Ok(rustix::fs::mknodat(
                at,
                OsStr::from_bytes(name),
                kind,
                Mode::RUSR | Mode::WUSR,
                device,
            )?)
        })
    }

    /// Fails, because the system has no such call.
    #[cfg(target_vendor = "apple")]
    pub(crate) fn make_special(
        &self,
        _: BorrowedFd<'_>,
        _: &[u8],
        _: EntryType,
        _: Device,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Holds the symbolic link, fifo, socket or device of this name.
    #[cfg(target_os = "linux")]
    pub(crate) fn hold(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<Handle> {
        self.call(|| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(Handle::Held(openat(at, OsStr::from_bytes(name), flags, Mode::empty())?))
        })
    }

    /// Refers to the symbolic link, fifo, socket or device of this name.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn hold(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<Handle> {
        self.call(|| Ok(Handle::Named(at.try_clone_to_owned()?, name.to_vec())))
    }

    /// Returns the status of a held entry.
    pub(crate) fn status_of_held(&self, handle: &Handle) -> io::Result<Status> {
        match handle {
            Handle::Open(file) => self.status_of(file),
            #[cfg(target_os = "linux")]
            Handle::Held(descriptor) => self.status_of(descriptor),
            #[cfg(not(target_os = "linux"))]
            Handle::Named(at, name) => self.status(at.as_fd(), name),
        }
    }

    /// Creates a hard link.
    pub(crate) fn link(
        &self,
        from: (BorrowedFd<'_>, &[u8]),
        to: (BorrowedFd<'_>, &[u8]),
    ) -> io::Result<()> {
        self.call(|| {
            let (from_name, to_name) = (OsStr::from_bytes(from.1), OsStr::from_bytes(to.1));
            Ok(linkat(from.0, from_name, to.0, to_name, AtFlags::empty())?)
        })
    }

    /// Renames an entry within a directory. Replaces an existing one, except that neither of the two may be a directory.
    pub(crate) fn rename(&self, at: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> io::Result<()> {
        self.call(|| Ok(renameat(at, OsStr::from_bytes(from), at, OsStr::from_bytes(to))?))
    }

    /// Renames an entry within a directory. Fails if the new name exists, and with [`io::ErrorKind::Unsupported`] if the
    /// system or the file system cannot rename in this way.
    pub(crate) fn rename_new(&self, at: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> io::Result<()> {
        self.call(|| {
            self.need(Feature::RenameNew)?;
            let (from, to) = (OsStr::from_bytes(from), OsStr::from_bytes(to));
            match rename_without_replacing(at, from, to) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    Err(io::ErrorKind::Unsupported.into())
                }
                outcome => Ok(outcome?),
            }
        })
    }

    /// Removes a name, unless it is a directory.
    pub(crate) fn remove(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        self.call(|| Ok(unlinkat(at, OsStr::from_bytes(name), AtFlags::empty())?))
    }

    /// Writes all bytes at an offset.
    pub(crate) fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(|| file.write_all_at(bytes, offset))
    }

    /// Sets the length of a file.
    pub(crate) fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        self.call(|| Ok(ftruncate(file, length)?))
    }

    /// Sets the owner and the group.
    pub(crate) fn set_owner(&self, handle: &Handle, owner: u32, group: u32) -> io::Result<()> {
        self.call(|| {
            let (owner, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)));
            match handle {
                Handle::Open(file) => Ok(fchown(file, owner, group)?),
                #[cfg(target_os = "linux")]
                Handle::Held(held) => Ok(chownat(held, "", owner, group, AtFlags::EMPTY_PATH)?),
                #[cfg(not(target_os = "linux"))]
                Handle::Named(at, name) => {
                    let (name, flags) = (OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW);
                    Ok(chownat(at, name, owner, group, flags)?)
                }
            }
        })
    }

    /// Sets the permissions of anything but a symbolic link.
    pub(crate) fn set_mode(&self, handle: &Handle, mode: u32) -> io::Result<()> {
        self.call(|| {
            let mode = Mode::from_raw_mode(raw_mode(mode)?);
            match handle {
                Handle::Open(file) => Ok(fchmod(file, mode)?),
                #[cfg(target_os = "linux")]
                Handle::Held(held) => Ok(chmodat(CWD, itself(held), mode, AtFlags::empty())?),
                #[cfg(not(target_os = "linux"))]
                Handle::Named(at, name) => {
                    Ok(chmodat(at, OsStr::from_bytes(name), mode, AtFlags::SYMLINK_NOFOLLOW)?)
                }
            }
        })
    }

    /// Sets the mtime, and leaves the atime as it is.
    pub(crate) fn set_modified(&self, handle: &Handle, modified: Timestamp) -> io::Result<()> {
        self.call(|| {
            let times = times(modified);
            match handle {
                Handle::Open(file) => Ok(futimens(file, &times)?),
                #[cfg(target_os = "linux")]
                Handle::Held(held) => match utimensat(held, "", &times, AtFlags::EMPTY_PATH) {
                    // Before Linux 5.8.
                    Err(Errno::INVAL) => {
                        Ok(utimensat(CWD, itself(held), &times, AtFlags::empty())?)
                    }
                    outcome => Ok(outcome?),
                },
                #[cfg(not(target_os = "linux"))]
                Handle::Named(at, name) => {
                    let (name, flags) = (OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW);
                    Ok(utimensat(at, name, &times, flags)?)
                }
            }
        })
    }

    /// Sets an extended attribute.
    pub(crate) fn set_attribute(
        &self,
        handle: &Handle,
        name: &[u8],
        value: &[u8],
    ) -> io::Result<()> {
        self.call(|| {
            let name = OsStr::from_bytes(name);
            match handle {
                Handle::Open(file) => file.set_xattr(name, value),
                #[cfg(target_os = "linux")]
                Handle::Held(held) => xattr::set_deref(itself(held), name, value),
                #[cfg(not(target_os = "linux"))]
                Handle::Named(..) => Err(io::ErrorKind::Unsupported.into()),
            }
        })
    }

    /// Removes an extended attribute, if the entry has this one.
    pub(crate) fn remove_attribute(&self, handle: &Handle, name: &OsStr) -> io::Result<()> {
        self.call(|| {
            let removed = match handle {
                Handle::Open(file) => file.remove_xattr(name),
                #[cfg(target_os = "linux")]
                Handle::Held(held) => xattr::remove_deref(itself(held), name),
                #[cfg(not(target_os = "linux"))]
                Handle::Named(..) => Ok(()),
            };
            match removed {
                Err(error) if is_without_attribute(&error) => Ok(()),
                outcome => outcome,
            }
        })
    }

    /// Returns an extended attribute of an open file or directory, if it has this one.
    pub(crate) fn attribute(&self, file: &File, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.call(|| match file.get_xattr(OsStr::from_bytes(name)) {
            Err(error) if is_without_attribute(&error) => Ok(None),
            outcome => outcome,
        })
    }

    /// Returns the names of the extended attributes of an open file or directory.
    pub(crate) fn attribute_names(&self, file: &File) -> io::Result<Vec<Vec<u8>>> {
        self.call(|| match file.list_xattr() {
            Err(error) if is_without_attribute(&error) => Ok(Vec::new()),
            names => Ok(names?.map(|name| name.as_bytes().to_vec()).collect()),
        })
    }

    /// Opens a file for reading.
    pub(crate) fn open_file(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
        self.call(|| Ok(openat(at, OsStr::from_bytes(name), FILE_FLAGS, Mode::empty())?.into()))
    }

    /// Returns the target of a symbolic link.
    pub(crate) fn target(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
        self.call(|| Ok(readlinkat(at, OsStr::from_bytes(name), Vec::new())?.into_bytes()))
    }

    /// Reads a directory. If a signal interrupts `read`, it starts again.
    pub(crate) fn read_directory<R>(
        &self,
        directory: BorrowedFd<'_>,
        read: impl Fn(Dir) -> io::Result<R>,
    ) -> io::Result<R> {
        self.call(|| read(Dir::read_from(directory)?))
    }
}

impl<T> Opens<T> for &System {
    fn open(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
        self.open_directory(at, name)
    }

    /// Fails: the top stays open for as long as the tree is used.
    fn open_top(&self, _: &T) -> io::Result<OwnedFd> {
        Err(replaced())
    }

    fn id_of(&self, directory: &OwnedFd) -> io::Result<FileId> {
        Ok(self.status_of(directory)?.id)
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_without_replacing(at: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    rustix::fs::renameat_with(at, from, at, to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_without_replacing(_: BorrowedFd<'_>, _: &OsStr, _: &OsStr) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Returns the path through which the system reaches a descriptor's own entry.
#[cfg(target_os = "linux")]
fn itself(held: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

/// Returns whether an attribute does not exist, or cannot exist in this file system.
fn is_without_attribute(error: &io::Error) -> bool {
    let absent = [
        Errno::OPNOTSUPP,
        #[cfg(target_os = "linux")]
        Errno::NODATA,
        #[cfg(target_vendor = "apple")]
        Errno::NOATTR,
    ];
    absent.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Converts permissions to the type of the system, which has 16 bits on macOS.
fn raw_mode<T: TryFrom<u32>>(mode: u32) -> io::Result<T> {
    T::try_from(mode).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn times(modified: Timestamp) -> Timestamps {
    let modified = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: modified,
    }
}

/// Returns whether the process or the system has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
