//! Changing an archive.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ar7_registry::Mode;
use ar7_registry::packs::BEGINNING_BYTES;
use ar7_registry::records::{EntryType, ExtendedAttribute, InodeNumber};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::archive::{Archive, Taken};
use crate::compression::{Compression, choose};
use crate::error::{Error, Result};
use crate::file::{Bytes, File, READ_MAX};
use crate::open::Open;
use crate::path::{bytes, split, to_path};
use crate::records::{Attributes, Metadata, Special};
use crate::source::{self, List, Walk, wrong_type};

/// Permission bits of new directories and symbolic links.
const DIRECTORY_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;

/// Bytes of a reader that are copied at first, and then at a time.
const FIRST_BYTES: usize = 64 << 10;
const COPIED_BYTES: usize = 1 << 20;

/// Changes that become durable together, or not at all.
///
/// [`Transaction::commit`] makes them durable. Dropping the transaction without it discards all of
/// them. Nobody else sees them before: a snapshot shows commits only. The transaction itself reads
/// what it wrote.
///
/// Any number of threads can use one transaction. A method that fails because of its arguments, or
/// because a path does or does not exist, changes nothing, and the transaction can continue. After
/// an error of the medium or damage, [`Transaction::commit`] fails too and discards everything, unless
/// the transaction returns to a [`crate::Savepoint`] first.
///
/// Paths are those of [`crate::Snapshot`]. The directory that is to contain a new entry must exist.
pub struct Transaction<'a> {
    pub(crate) open: Open,
    is_finished: bool,
    _turn: Taken<'a>,
}

impl Archive {
    /// Begins a transaction. An archive has one at a time: while another one is in progress, or a
    /// call that changes the archive, this waits for its end.
    ///
    /// A thread that already has a transaction waits for itself, as with a mutex.
    /// [`Archive::try_begin`] fails instead.
    pub fn begin(&self) -> Result<Transaction<'_>> {
        self.check_writable()?;
        Ok(Transaction::new(self, self.turn.take()))
    }

    /// Runs a function in a transaction, which is committed if it returns `Ok`, and rolled back otherwise. It must not begin
    /// another transaction of the archive, which would wait for its own.
    ///
    /// ```
    /// # fn main() -> ar7::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
    /// archive.transact(|transaction| transaction.create_directory("photos"))?;
    /// let refused = archive.transact(|transaction| {
    ///     transaction.write("notes", &b"text"[..])?;
    ///     transaction.create_directory("photos")
    /// });
    /// assert!(matches!(refused, Err(ar7::Error::AlreadyExists { .. })));
    /// assert!(!archive.snapshot()?.exists("notes")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn transact<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let transaction = self.begin()?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Begins a transaction, or fails with [`Error::InTransaction`] if one is in progress.
    pub fn try_begin(&self) -> Result<Transaction<'_>> {
        self.check_writable()?;
        Ok(Transaction::new(self, self.turn.try_take()?))
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.registry.store().check_usable()?;
        if self.is_writer() { Ok(()) } else { Err(Error::ReadOnly) }
    }
}

impl<'a> Transaction<'a> {
    fn new(archive: &'a Archive, turn: Taken<'a>) -> Transaction<'a> {
        Transaction { open: Open::new(archive.registry.clone()), is_finished: false, _turn: turn }
    }

    /// Makes everything durable and visible. When this returns, it is on stable storage.
    ///
    /// If it fails, nothing of the transaction is visible. If the medium failed, the archive must be
    /// opened again; it then has this commit or the one before.
    pub fn commit(mut self) -> Result<()> {
        self.open.close();
        // A failed commit has rolled back.
        self.is_finished = true;
        Ok(self.registry().commit()?)
    }

    /// Discards everything, as dropping the transaction does. Returns the error of the archive, if
    /// there is one.
    pub fn roll_back(mut self) -> Result<()> {
        self.open.close();
        self.is_finished = true;
        Ok(self.registry().rollback()?)
    }

    /// Returns the content of a file of up to [`crate::READ_MAX`] bytes. A longer one fails with
    /// [`Error::FileTooLong`]: a hole costs an archive nothing, so the length of a file says little about its size. Read
    /// it through [`Transaction::open`], or with [`Transaction::read_up_to`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        self.read_up_to(path, READ_MAX)
    }

    /// Returns the content of a file of up to `limit_bytes` bytes. Fails with [`Error::FileTooLong`] if it has more.
    pub fn read_up_to(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
        self.open(path, Mode::READ)?.into_content(limit_bytes)
    }

    /// Stores everything from a reader as the content of a file. Creates the file, or replaces its
    /// content and keeps its other attributes. Returns the number of bytes.
    ///
    /// If the reader fails, the file is as it was.
    pub fn write(&self, path: impl AsRef<Path>, mut reader: impl Read) -> Result<u64> {
        let path = path.as_ref();
        let place = self.place(path)?;
        let existing = self.file_in(place, path)?;
        let mut first = Zeroizing::new(vec![0; FIRST_BYTES]);
        let length = fill(&mut reader, &mut first)?;
        if length == 0 {
            self.set_content(place, path, existing, None)?;
            return Ok(0);
        }
        let mut stream = self.new_stream()?;
        let copied = copy(&first[..length], &mut reader, &mut stream);
        let id = stream.stream()?;
        drop(stream);
        let stored = copied.and_then(|length| {
            self.set_content(place, path, existing, id)?;
            Ok(length)
        });
        if stored.is_err()
            && let Some(id) = id
        {
            self.delete_stream(id)?;
        }
        stored
    }

    /// Opens a file. Mode `r` expects it to exist, `w` and `a` create it if necessary, and `x`
    /// creates it and fails with [`Error::AlreadyExists`] if the path exists. `w` empties it.
    pub fn open(&self, path: impl AsRef<Path>, mode: Mode) -> Result<File<'_>> {
        let path = path.as_ref();
        let place = self.place(path)?;
        let number = match self.file_in(place, path)? {
            Some(_) if mode.needs_new() => {
                return Err(Error::AlreadyExists { path: path.to_owned() });
            }
            Some(number) => number,
            None if mode.creates() => {
                let (directory, name) = place;
                let attributes = Attributes::now(Attributes::default().mode).of_registry();
                let added = self.registry().names().add_file(directory, name, attributes, None);
                added.map_err(|error| Error::from(error).at(path))?
            }
            None => source::find(self.registry(), path)?.0,
        };
        File::new(Bytes::Shared(self.open.content(number)), &path.display().to_string(), mode)
    }

    /// Opens a new file for writing in place of what the path names: a file or link there is removed, so that other names
    /// of the same file keep their content, and so does the target of a link. A directory is not replaced.
    pub fn replace(&self, path: impl AsRef<Path>) -> Result<File<'_>> {
        let path = path.as_ref();
        match self.metadata(path) {
            Ok(before) if !before.is_directory() && (before.links > 1 || !before.is_file()) => {
                self.remove(path)?;
            }
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.open(path, Mode::WRITE)
    }

    /// Compresses the content of a file, if a sample of its beginning becomes smaller, or samples of a long one. A file is
    /// compressed as a whole; what does not become smaller is stored as it is. Without a choice, this follows the
    /// archive, otherwise the archive follows the choice from now on. Returns whether the content was not compressed
    /// before.
    ///
    /// A later write to the file stores its content in whole blocks again. A file with holes stays compressed: after
    /// writes, the next commit or savepoint compresses it once more, which copies its content but not its holes.
    pub fn compress(
        &self,
        path: impl AsRef<Path>,
        compression: impl Into<Option<Compression>>,
    ) -> Result<bool> {
        let path = path.as_ref();
        let compression = choose(self.registry(), compression.into())?;
        let mut file = self.open(path, Mode::READ)?;
        let mut beginning = Zeroizing::new(vec![0; BEGINNING_BYTES]);
        let length = fill(&mut file, &mut beginning)?;
        let packs = compression.packs_large(&beginning[..length])
            || compression.packs_rest(file.len()?, |offset, bytes| file.read_at(offset, bytes))?;
        drop(file);
        if !packs {
            return Ok(false);
        }
        let (number, _) = source::find(self.registry(), path)?;
        self.open
            .deleting(|| self.registry().names().pack(number))
            .map_err(|error| Error::from(error).at(path))
    }

    /// Makes a directory.
    pub fn create_directory(&self, path: impl AsRef<Path>) -> Result<()> {
        self.create_directory_with(path, Attributes::now(DIRECTORY_MODE))
    }

    /// Makes a directory with these attributes.
    pub fn create_directory_with(
        &self,
        path: impl AsRef<Path>,
        attributes: Attributes,
    ) -> Result<()> {
        let (path, attributes) = (path.as_ref(), attributes.of_registry());
        let (directory, name) = self.place(path)?;
        let made = self.registry().names().make_directory(directory, name, attributes);
        made.map(drop).map_err(|error| Error::from(error).at(path))
    }

    /// Makes the missing directories of a path.
    pub fn create_directories(&self, path: impl AsRef<Path>) -> Result<()> {
        self.create_directories_with(path, Attributes::now(DIRECTORY_MODE))
    }

    /// Makes the missing directories of a path, with these attributes.
    pub fn create_directories_with(
        &self,
        path: impl AsRef<Path>,
        attributes: Attributes,
    ) -> Result<()> {
        let (path, attributes) = (bytes(path.as_ref()), attributes.of_registry());
        self.registry().names().make_directories(path, attributes)?;
        Ok(())
    }

    /// Moves an entry. A file or symbolic link at the new path is replaced, unless a directory is
    /// moved; a directory is never replaced.
    ///
    /// If both paths are names of the same file, nothing changes, as with `rename` of POSIX.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.rename_with(from.as_ref(), to.as_ref(), true)
    }

    /// Moves an entry. Fails with [`Error::AlreadyExists`] if the new path exists.
    pub fn rename_new(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.rename_with(from.as_ref(), to.as_ref(), false)
    }

    /// Returns the path to which `mv` moves an entry: in the directory at `to` if there is one, and `to` otherwise.
    pub fn destination(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<PathBuf> {
        let (from, to) = (from.as_ref(), to.as_ref());
        match self.registry().names().resolve(bytes(to)).map_err(Error::from) {
            Ok(found) if found.kind == EntryType::Directory => {
                Ok(to.join(from.file_name().unwrap_or_default()))
            }
            Ok(_) | Err(Error::NotFound { .. } | Error::WrongType { .. }) => Ok(to.to_owned()),
            Err(error) => Err(error),
        }
    }

    fn rename_with(&self, old_path: &Path, new_path: &Path, replace: bool) -> Result<()> {
        let (from, to) = (self.place(old_path)?, self.place(new_path)?);
        let names = self.registry().names();
        let renamed = self.open.deleting(|| names.rename(from, to, replace));
        if renamed.is_ok() && from == to && !replace {
            return Err(Error::AlreadyExists { path: new_path.to_owned() });
        }
        renamed.map_err(|error| match Error::from(error) {
            error @ (Error::NotFound { .. } | Error::IntoItself { .. }) => error.at(old_path),
            error => error.at(new_path),
        })
    }

    /// Removes an entry; a directory only if it is empty. The content of a file is deleted with its
    /// last name.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (directory, name) = self.place(path)?;
        let names = self.registry().names();
        let removed = self.open.deleting(|| names.remove(directory, name));
        removed.map_err(|error| Error::from(error).at(path))
    }

    /// Removes an entry and everything below it. Returns the number of removed names.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<u64> {
        let path = path.as_ref();
        let (directory, name) = self.place(path)?;
        let names = self.registry().names();
        let mut removed = 0;
        let outcome = self.open.deleting(|| {
            let before = removed;
            names.remove_tree(directory, name, None, &mut |now| {
                removed = before + now;
                true
            })
        });
        outcome.map_err(|error| Error::from(error).at(path))?;
        Ok(removed)
    }

    /// Gives an entry a further name. A directory has only one.
    pub fn link(&self, existing: impl AsRef<Path>, new: impl AsRef<Path>) -> Result<()> {
        let (existing, new) = (existing.as_ref(), new.as_ref());
        let (number, inode) = source::find(self.registry(), existing)?;
        if inode.kind == EntryType::Directory {
            return Err(wrong_type(existing, "an entry other than a directory", inode.kind));
        }
        let (directory, name) = self.place(new)?;
        let linked = self.registry().names().add_link(directory, name, number);
        linked.map_err(|error| Error::from(error).at(new))
    }

    /// Makes a symbolic link at `path` to any target of up to 65,536 bytes.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (directory, name) = self.place(path)?;
        let attributes = Attributes::now(LINK_MODE).of_registry();
        let target = bytes(target.as_ref());
        let made = self.registry().names().add_symlink(directory, name, attributes, target);
        made.map(drop).map_err(|error| Error::from(error).at(path))
    }

    /// Makes a fifo, a socket or a device.
    pub fn create_special(&self, path: impl AsRef<Path>, special: Special) -> Result<()> {
        let path = path.as_ref();
        let (directory, name) = self.place(path)?;
        let attributes = Attributes::now(Attributes::default().mode).of_registry();
        let (kind, device) = special.of_registry();
        let made = self.registry().names().add_special(directory, name, attributes, kind, device);
        made.map(drop).map_err(|error| Error::from(error).at(path))
    }

    /// Sets permissions, owner, modification time and origin.
    pub fn set_attributes(&self, path: impl AsRef<Path>, attributes: Attributes) -> Result<()> {
        let (number, _) = source::find(self.registry(), path.as_ref())?;
        Ok(self.registry().names().set_attributes(number, attributes.of_registry())?)
    }

    /// Returns the extended attributes of an entry, in ascending order of their names.
    pub fn extended_attributes(&self, path: impl AsRef<Path>) -> Result<Vec<ExtendedAttribute>> {
        source::extended_attributes(self.registry(), path.as_ref())
    }

    /// Replaces all extended attributes of an entry. Their order does not matter.
    ///
    /// A name has 1 to 255 bytes without NUL, and occurs once; otherwise it fails with
    /// [`Error::InvalidName`]. A value has up to 65,536 bytes, and all attributes of an entry up to
    /// 1 MiB, with 5 bytes for each one; otherwise it fails with [`Error::OutOfBounds`].
    pub fn set_extended_attributes(
        &self,
        path: impl AsRef<Path>,
        attributes: &[ExtendedAttribute],
    ) -> Result<()> {
        let (number, _) = source::find(self.registry(), path.as_ref())?;
        Ok(self.registry().names().set_extended_attributes(number, attributes)?)
    }

    /// Returns what the archive knows about an entry, with the changes of this transaction.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        source::metadata(self.registry(), path.as_ref())
    }

    /// Returns whether a path exists.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        source::exists(self.registry(), path.as_ref())
    }

    /// Returns the target of a symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        source::read_link(self.registry(), path.as_ref())
    }

    /// Returns the entries of a directory, in byte order of their names. Entries that are added
    /// meanwhile may be among them.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<List<'_>> {
        List::new(self.registry(), path.as_ref())
    }

    /// Returns all entries below a directory, each directory before its entries. Entries that are
    /// added meanwhile may be among them.
    pub fn walk(&self, path: impl AsRef<Path>) -> Result<Walk<'_>> {
        Walk::new(self.registry(), path.as_ref())
    }

    /// Creates a stream without a name, and opens it for reading and writing. [`File::stream`]
    /// returns its UUID. Only an archive of kind [`crate::Kind::Dynamic`] allows it.
    pub fn new_stream(&self) -> Result<File<'_>> {
        let stream = self.open.new_stream()?;
        let name = stream.identity()?.map_or_else(String::new, |id| id.to_string());
        File::new(Bytes::Shared(stream), &name, Mode::READ_WRITE)
    }

    /// Opens a stream, whether it is the content of a file or not. The mode is as for
    /// [`Transaction::open`].
    pub fn stream(&self, id: Uuid, mode: Mode) -> Result<File<'_>> {
        File::new(Bytes::Shared(self.open.stream(id, mode)?), &id.to_string(), mode)
    }

    /// Deletes a stream. Returns whether it existed. Fails with [`Error::StreamIsNamed`] if it is
    /// the content of a file or symbolic link.
    pub fn delete_stream(&self, id: Uuid) -> Result<bool> {
        Ok(self.open.deleting(|| self.registry().delete_stream(id))?)
    }

    /// Returns the application's own metadata of the archive.
    pub fn archive_metadata(&self) -> Result<Vec<u8>> {
        Ok(self.registry().metadata()?)
    }

    /// Sets the application's own metadata of the archive, up to 2048 bytes.
    pub fn set_archive_metadata(&self, metadata: &[u8]) -> Result<()> {
        Ok(self.registry().set_metadata(metadata)?)
    }

    fn registry(&self) -> &ar7_registry::Archive {
        &self.open.archive
    }

    /// Returns the directory and the name of a path. The directory must exist.
    fn place<'p>(&self, path: &'p Path) -> Result<(InodeNumber, &'p [u8])> {
        let (parent, name) = split(path)?;
        let directory = self.registry().names().resolve(parent)?;
        if directory.kind != EntryType::Directory {
            let path = source::normal(&to_path(parent.to_vec()));
            return Err(wrong_type(&path, EntryType::Directory.name(), directory.kind));
        }
        Ok((directory.inode, name))
    }

    /// Returns the file with a name in a directory, or `None` if the name is unused. `path` is for errors.
    fn file_in(
        &self,
        (directory, name): (InodeNumber, &[u8]),
        path: &Path,
    ) -> Result<Option<InodeNumber>> {
        match self.registry().names().lookup(directory, name)? {
            Some(entry) if entry.kind == EntryType::File => Ok(Some(entry.inode)),
            Some(entry) => Err(wrong_type(path, EntryType::File.name(), entry.kind)),
            None => Ok(None),
        }
    }

    /// Makes a stream the content of the file at a place.
    fn set_content(
        &self,
        (directory, name): (InodeNumber, &[u8]),
        path: &Path,
        existing: Option<InodeNumber>,
        stream: Option<Uuid>,
    ) -> Result<()> {
        let names = self.registry().names();
        let set = if let Some(number) = existing {
            let inode = names.inode(number)?;
            let before = inode.map_or_else(Attributes::default, |inode| inode.attributes.into());
            let attributes = before.changed_now().of_registry();
            self.open.deleting(|| names.replace_content(number, stream, attributes))
        } else {
            let attributes = Attributes::now(Attributes::default().mode).of_registry();
            names.add_file(directory, name, attributes, stream).map(drop)
        };
        set.map_err(|error| Error::from(error).at(path))
    }
}

/// Copies the first bytes, and the rest of a reader, to a stream. Returns the number of bytes.
fn copy(first: &[u8], reader: &mut impl Read, stream: &mut File<'_>) -> Result<u64> {
    stream.write_at(0, first)?;
    let mut offset = first.len() as u64;
    if first.len() < FIRST_BYTES {
        return Ok(offset);
    }
    let mut part = Zeroizing::new(vec![0; COPIED_BYTES]);
    loop {
        let length = fill(reader, &mut part)?;
        stream.write_at(offset, &part[..length])?;
        offset += length as u64;
        if length < part.len() {
            return Ok(offset);
        }
    }
}

/// Reads until the part is full or the reader ends. Returns the number of bytes.
fn fill(reader: &mut impl Read, part: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < part.len() {
        match reader.read(&mut part[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.open.close();
            // An archive that is unusable returns the reason from its next call.
            let _ = self.registry().rollback();
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transaction").field("archive", &self.open.archive).finish()
    }
}
