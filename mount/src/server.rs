//! What is served, and how requests read it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ar7_registry::names::Entry;
use ar7_registry::records::{EntryType, Inode, InodeNumber, NAME_MAX};
use ar7_registry::{Archive, FileContent, Snapshot};
use fuser::{Errno, FileAttr, FileHandle, INodeNo};

use crate::ahead::{ReadAhead, Wanted};
use crate::attributes::status;
use crate::errno::errno;
use crate::flusher::Flusher;
use crate::handles::{Handles, lock};
use crate::listing::Listing;
use crate::open_file::Orphan;
use crate::view::View;
use crate::writer::Writer;

/// How long the kernel may keep what nobody else changes.
const ALWAYS: Duration = Duration::from_secs(1 << 30);

/// How long the kernel may keep what another process changes in its own commits.
const FOLLOWING: Duration = Duration::from_secs(1);

/// How often a read begins again because the file was changed meanwhile.
const READS_MAX: u32 = 1000;

/// What a program may look for in a file.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// An attribute of the root directory, which is not listed: the number of the process that serves the mount.
pub(crate) const PROCESS_ATTRIBUTE: &str = "user.ar7.process";

/// What is served.
pub(crate) enum Served {
    /// One commit.
    Commit(Snapshot),
    /// The newest commit.
    Newest,
    /// The open transaction.
    Transaction(Arc<Writer>),
}

/// The file system.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) archive: Archive,
    pub(crate) served: Arc<Served>,
    pub(crate) directories: Arc<Handles<Mutex<Listing>>>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) ahead: Arc<ReadAhead>,
}

/// What a read finds.
enum Found {
    /// Bytes of the open transaction.
    Bytes(Vec<u8>),
    /// Committed content, and where to read it.
    Content(FileContent, Wanted),
}

/// The outcome of a request.
pub(crate) type Outcome<T> = Result<T, Errno>;

impl Server {
    pub(crate) fn new(archive: Archive, served: Served, flusher: Arc<Flusher>) -> Server {
        let directories = Arc::new(Handles::new());
        Server { archive, served: Arc::new(served), directories, flusher, ahead: Arc::default() }
    }

    /// Returns how long the kernel may keep names and attributes.
    pub(crate) fn lifetime(&self) -> Duration {
        match &*self.served {
            Served::Commit(_) | Served::Transaction(_) => ALWAYS,
            Served::Newest => FOLLOWING,
        }
    }

    pub(crate) fn writer(&self) -> Outcome<&Arc<Writer>> {
        match &*self.served {
            Served::Transaction(writer) => Ok(writer),
            Served::Commit(_) | Served::Newest => Err(Errno::EROFS),
        }
    }

    /// Returns where an inode is read, and the entries of a directory.
    fn view(&self, number: InodeNumber) -> View {
        match &*self.served {
            Served::Commit(snapshot) => View::Committed(snapshot.clone()),
            Served::Newest => View::Committed(self.archive.snapshot()),
            Served::Transaction(writer) => writer.view(number),
        }
    }

    pub(crate) fn inode(&self, number: INodeNo) -> Outcome<(View, Inode)> {
        let number = number_of(number);
        let view = self.view(number);
        let open = |orphan: Orphan| (View::Open(self.archive.clone()), orphan.inode);
        if let Some(orphan) = self.orphan(number)? {
            return Ok(open(orphan));
        }
        match view.inode(number).map_err(|error| errno(&error))? {
            Some(inode) => Ok((view, inode)),
            // It may have lost its last name since the check.
            None => self.orphan(number)?.map(open).ok_or(Errno::ESTALE),
        }
    }

    /// Returns what is left of a file without a name; `None` if it is not one.
    fn orphan(&self, number: InodeNumber) -> Outcome<Option<Orphan>> {
        match &*self.served {
            Served::Transaction(writer) => writer.orphan(number),
            Served::Commit(_) | Served::Newest => Ok(None),
        }
    }

    pub(crate) fn status(&self, number: INodeNo) -> Outcome<FileAttr> {
        let (_, inode) = self.inode(number)?;
        Ok(status(number_of(number), &inode))
    }

    pub(crate) fn find(&self, parent: INodeNo, name: &OsStr) -> Outcome<FileAttr> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let view = self.view(number_of(parent));
        let entry = view.lookup(number_of(parent), name.as_bytes());
        let entry = entry.map_err(|error| errno(&error))?.ok_or(Errno::ENOENT)?;
        self.status(INodeNo(entry.inode.0))
    }

    pub(crate) fn read_target(&self, number: INodeNo) -> Outcome<Vec<u8>> {
        let (view, inode) = self.inode(number)?;
        if inode.kind != EntryType::Symlink {
            return Err(Errno::EINVAL);
        }
        view.read_target(&inode).map_err(|error| errno(&error))
    }

    /// Passes bytes of a file, or the error, to `answer`.
    pub(crate) fn read_at<T>(
        &self,
        number: INodeNo,
        offset: u64,
        size: u32,
        answer: impl FnOnce(Outcome<&[u8]>) -> T,
    ) -> T {
        match self.content_at(number, offset, size) {
            Ok(Found::Bytes(bytes)) => answer(Ok(&bytes)),
            Ok(Found::Content(content, wanted)) => {
                let read = move |offset, bytes: &mut [u8]| content.read_at(offset, bytes);
                self.ahead.read(wanted, read, |read| answer(read.map_err(|error| errno(&error))))
            }
            Err(error) => answer(Err(error)),
        }
    }

    fn content_at(&self, number: INodeNo, offset: u64, size: u32) -> Outcome<Found> {
        for _ in 0..READS_MAX {
            if let Served::Transaction(writer) = &*self.served
                && let Some(bytes) = writer.read(number_of(number), offset, size)?
            {
                return Ok(Found::Bytes(bytes));
            }
            let (view, inode) = self.inode(number)?;
            let View::Committed(snapshot) = view else {
                // The file was changed, or lost its last name, since the check.
                continue;
            };
            let content = if inode.kind == EntryType::File {
                snapshot.read_file(&inode).map_err(|error| errno(&error))?
            } else {
                None
            };
            let left = inode.size.saturating_sub(offset).min(size.into());
            let (Some(content), 1..) = (content, left) else {
                return Ok(Found::Bytes(Vec::new()));
            };
            let wanted = Wanted {
                file: number_of(number),
                commit: snapshot.commit().slot.number,
                offset,
                length: usize::try_from(left).map_err(|_| Errno::EINVAL)?,
                size: inode.size,
            };
            return Ok(Found::Content(content, wanted));
        }
        Err(Errno::EIO)
    }

    /// Returns the status of an entry that was listed, unless its name has been removed or given to another one since.
    pub(crate) fn listed_status(&self, parent: INodeNo, entry: &Entry) -> Outcome<FileAttr> {
        let is_always = matches!(&*self.served, Served::Commit(_));
        if is_always || entry.name == b"." || entry.name == b".." {
            return self.status(INodeNo(entry.inode.0));
        }
        let status = self.find(parent, OsStr::from_bytes(&entry.name))?;
        if status.ino.0 == entry.inode.0 { Ok(status) } else { Err(Errno::ENOENT) }
    }

    /// Returns the next offset with data, or the next in a hole. The end of a file counts as a hole.
    pub(crate) fn seek(&self, number: INodeNo, offset: u64, whence: i32) -> Outcome<u64> {
        let (view, inode) = self.inode(number)?;
        if offset >= inode.size {
            return Err(Errno::ENXIO);
        }
        let found = match whence {
            SEEK_DATA => view.seek(&inode, offset, true),
            SEEK_HOLE => view.seek(&inode, offset, false).map(|at| at.or(Some(inode.size))),
            _ => return Err(Errno::EINVAL),
        };
        found.map_err(|error| errno(&error))?.ok_or(Errno::ENXIO)
    }

    pub(crate) fn open_directory(&self, number: INodeNo) -> Outcome<u64> {
        let (_, inode) = self.inode(number)?;
        if inode.kind != EntryType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let number = number_of(number);
        let listing = Listing::new(number, inode.parent.unwrap_or(number));
        Ok(self.directories.add(Mutex::new(listing)))
    }

    pub(crate) fn list(
        &self,
        handle: FileHandle,
        offset: u64,
        add: impl FnMut(u64, &Entry) -> bool,
    ) -> Outcome<()> {
        let listing = self.directories.get(handle.0).ok_or(Errno::EBADF)?;
        let mut listing = lock(&listing);
        let view = self.view(listing.directory());
        listing.read(&view, offset, add).map_err(|error| errno(&error))
    }

    /// Returns the extended attributes with a name; all without one.
    pub(crate) fn extended(&self, number: INodeNo, name: Option<&OsStr>) -> Outcome<Vec<u8>> {
        if number == INodeNo::ROOT && name == Some(OsStr::new(PROCESS_ATTRIBUTE)) {
            return Ok(std::process::id().to_string().into_bytes());
        }
        let attributes = if let Some(orphan) = self.orphan(number_of(number))? {
            orphan.extended
        } else {
            let (view, inode) = self.inode(number)?;
            view.extended_attributes(&inode).map_err(|error| errno(&error))?
        };
        let Some(name) = name else {
            let names =
                attributes.into_iter().map(|attribute| [&attribute.name[..], &[0]].concat());
            return Ok(names.collect::<Vec<_>>().concat());
        };
        let found = attributes.into_iter().find(|attribute| attribute.name == name.as_bytes());
        Ok(found.ok_or(Errno::ENODATA)?.value)
    }
}

pub(crate) fn number_of(number: INodeNo) -> InodeNumber {
    InodeNumber(number.0)
}
