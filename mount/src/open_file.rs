//! A file that programs have open, and its content.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use ar7_registry::records::{ExtendedAttribute, Inode, InodeNumber};
use ar7_registry::{Archive, Names, Stream};
use fuser::Errno;

use crate::errno::Failure;
use crate::handles::lock;
use crate::inodes::existing;
use crate::space::is_too_long;

/// A file that programs have open.
pub(crate) struct OpenFile {
    number: InodeNumber,
    is_orphan: AtomicBool,
    content: Mutex<Content>,
}

/// The content of a file.
#[derive(Default)]
pub(crate) struct Content {
    handles: usize,
    /// How many of them can write.
    writers: usize,
    /// The stream, if it was needed since the file was opened.
    stream: Option<Stream>,
    orphan: Option<Orphan>,
}

/// What is left of a file that has lost its last name: the archive has its inode no more.
#[derive(Clone)]
pub(crate) struct Orphan {
    pub(crate) inode: Inode,
    pub(crate) extended: Vec<ExtendedAttribute>,
}

impl OpenFile {
    pub(crate) fn new(number: InodeNumber) -> OpenFile {
        OpenFile { number, is_orphan: AtomicBool::new(false), content: Mutex::default() }
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.content)
    }

    /// Returns whether the file has lost its last name.
    pub(crate) fn is_orphan(&self) -> bool {
        self.is_orphan.load(Ordering::SeqCst)
    }

    /// Adds a handle.
    pub(crate) fn hold(&self, writes: bool) {
        let mut content = self.content();
        content.handles += 1;
        content.writers += usize::from(writes);
    }

    /// Ends a handle. Returns whether it was the last one.
    pub(crate) fn release(&self, writes: bool) -> bool {
        let mut content = self.content();
        content.handles = content.handles.saturating_sub(1);
        content.writers = content.writers.saturating_sub(usize::from(writes));
        if content.handles == 0 {
            // Closed before anybody else can open it.
            content.stream = None;
        }
        content.handles == 0
    }

    /// Returns whether a handle can write, so that the kernel may have content that it has not written yet.
    pub(crate) fn has_writers(&self) -> bool {
        self.content().writers > 0
    }

    /// Forgets what a failed transaction had.
    pub(crate) fn fail(&self) {
        let mut content = self.content();
        (content.stream, content.orphan) = (None, None);
    }

    /// Removes a name of the file. If it is the last one, programs that have the file open can still use it.
    pub(crate) fn remove_name(
        &self,
        archive: &Archive,
        names: &Names<'_>,
        (directory, name): (InodeNumber, &[u8]),
    ) -> Result<(), Failure> {
        let mut content = self.content();
        let inode = existing(names, self.number)?;
        if inode.links > 1 {
            return Ok(names.remove(directory, name)?);
        }
        if is_too_long(archive, &inode)? {
            return Err(Errno::EBUSY.into());
        }
        // Before a packed file is unpacked: they can be damaged, and then the name stays.
        let extended = names.extended_attributes(&inode)?;
        if inode.size > 0 || inode.stream.is_some() {
            content.writable(archive, names, self.number)?;
        }
        if let Some(inode) = names.remove_open(directory, name)? {
            let inode = Inode { links: 0, stream: None, slice: None, ..inode };
            content.orphan = Some(Orphan { inode, extended });
            self.is_orphan.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Content {
    /// Returns what is left of a file without a name, with its current length.
    pub(crate) fn orphan(&self) -> Result<Option<Orphan>, Failure> {
        let Some(mut orphan) = self.orphan.clone() else { return Ok(None) };
        orphan.inode.size = self.stream.as_ref().map_or(Ok(0), Stream::len)?;
        Ok(Some(orphan))
    }

    /// Changes what is left of a file without a name. Returns whether it is one.
    pub(crate) fn set_orphan(&mut self, change: impl FnOnce(&mut Orphan)) -> bool {
        self.orphan.as_mut().map(change).is_some()
    }

    /// Returns whether the file has lost its last name.
    pub(crate) fn is_orphan(&self) -> bool {
        self.orphan.is_some()
    }

    /// Returns the length of the content; `None` if it is that of the inode, which has no stream that is open.
    pub(crate) fn length(&self) -> Result<Option<u64>, Failure> {
        match &self.stream {
            Some(stream) => Ok(Some(stream.len()?)),
            None => Ok(self.orphan.as_ref().map(|_| 0)),
        }
    }

    /// Returns the stream of a file in the open transaction; `None` if it is empty or packed.
    pub(crate) fn readable(
        &mut self,
        archive: &Archive,
        inode: &Inode,
    ) -> Result<Option<&mut Stream>, Failure> {
        if let (None, None, Some(stream)) = (&self.stream, &self.orphan, inode.stream) {
            self.stream = Some(archive.open_stream(stream)?);
        }
        Ok(self.stream.as_mut())
    }

    /// Returns the stream of a file, to change it. A packed file gets one of its own.
    pub(crate) fn writable(
        &mut self,
        archive: &Archive,
        names: &Names<'_>,
        number: InodeNumber,
    ) -> Result<&mut Stream, Failure> {
        if self.stream.is_none() {
            let stream = if self.orphan.is_some() {
                let stream = archive.new_stream()?;
                archive.delete_on_close(stream.identity())?;
                stream
            } else {
                if is_too_long(archive, &existing(names, number)?)? {
                    return Err(Errno::ENOSPC.into());
                }
                match names.unpack(number)? {
                    Some(stream) => archive.open_stream(stream)?,
                    None => new_content(archive, names, number)?,
                }
            };
            self.stream = Some(stream);
        }
        self.stream.as_mut().ok_or_else(|| Errno::EIO.into())
    }

    /// Returns whether a file is packed and too long for a stream of its own.
    pub(crate) fn stays_packed(
        &self,
        archive: &Archive,
        names: &Names<'_>,
        number: InodeNumber,
    ) -> Result<bool, Failure> {
        if self.stream.is_some() || self.orphan.is_some() {
            return Ok(false);
        }
        Ok(is_too_long(archive, &existing(names, number)?)?)
    }

    /// Empties a file.
    pub(crate) fn clear(&mut self, names: &Names<'_>, number: InodeNumber) -> Result<(), Failure> {
        if let Some(stream) = &mut self.stream {
            return Ok(stream.set_len(0)?);
        }
        if self.orphan.is_none() {
            let attributes = existing(names, number)?.attributes;
            names.replace_content(number, None, attributes)?;
        }
        Ok(())
    }
}

/// Gives an empty file a stream.
fn new_content(
    archive: &Archive,
    names: &Names<'_>,
    number: InodeNumber,
) -> Result<Stream, Failure> {
    let attributes = existing(names, number)?.attributes;
    let stream = archive.new_stream()?;
    match names.replace_content(number, Some(stream.identity()), attributes) {
        Ok(()) => Ok(stream),
        Err(error) => {
            let identity = stream.identity();
            stream.close()?;
            archive.delete_stream(identity)?;
            Err(error.into())
        }
    }
}
