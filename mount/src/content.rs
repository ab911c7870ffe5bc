//! Reading and changing the content of files in the open transaction.

use std::sync::Arc;

use ar7_engine::format::{BLOCKS_MAX, DATA_SIZE_U64};
use ar7_registry::records::{EntryType, InodeNumber};
use ar7_registry::{Names, Stream};
use fuser::Errno;

use crate::errno::Failure;
use crate::handles::lock;
use crate::inodes::{
    Change, changed_extended, drop_capabilities, existing, modified_now, without_privileges,
};
use crate::open_file::{Content, OpenFile, Orphan};
use crate::space::{CONTENT_BYTES, has_room};
use crate::writer::{Need, Writer};

/// Zeros that are written at a time.
const ZEROS: usize = 1 << 20;

/// How a program changes the space of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocation {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Whether the length of the file stays.
    pub(crate) keeps_size: bool,
    /// Whether the bytes become zeros.
    pub(crate) zeroes: bool,
}

impl Writer {
    /// Opens a file. Fails if it has just been removed.
    pub(crate) fn open(&self, number: InodeNumber, writes: bool) -> Result<(), Errno> {
        if writes {
            self.check_not_failed()?;
        }
        let file = {
            let mut files = lock(&self.files);
            let file = files.entry(number).or_insert_with(|| Arc::new(OpenFile::new(number)));
            file.hold(writes);
            Arc::clone(file)
        };
        // From here on, a removal keeps the content.
        let exists =
            file.is_orphan() || self.view(number).inode(number).is_ok_and(|it| it.is_some());
        if !exists {
            self.close_handle(number, writes);
            return Err(Errno::ESTALE);
        }
        Ok(())
    }

    pub(crate) fn file(&self, number: InodeNumber) -> Option<Arc<OpenFile>> {
        lock(&self.files).get(&number).cloned()
    }

    /// Returns what is left of a file without a name; `None` if it is not one.
    pub(crate) fn orphan(&self, number: InodeNumber) -> Result<Option<Orphan>, Errno> {
        let Some(file) = self.file(number).filter(|file| file.is_orphan()) else { return Ok(None) };
        file.content().orphan().map_err(|failure| failure.errno())
    }

    /// Reads content of an open file that differs from the last commit; `None` if it does not.
    pub(crate) fn read(
        &self,
        number: InodeNumber,
        offset: u64,
        size: u32,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let Some(file) = self.file(number) else { return Ok(None) };
        if !file.is_orphan() && !self.is_changed(number) {
            return Ok(None);
        }
        let read = self.read_open(&file, number, offset, size);
        read.map(Some).map_err(|failure| failure.errno())
    }

    fn read_open(
        &self,
        file: &OpenFile,
        number: InodeNumber,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>, Failure> {
        let names = self.archive.names();
        let mut content = file.content();
        let inode = match content.orphan()? {
            Some(orphan) => orphan.inode,
            None => existing(&names, number)?,
        };
        let left = inode.size.saturating_sub(offset).min(size.into());
        if left == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; usize::try_from(left).map_err(|_| Errno::EINVAL)?];
        let length = match content.readable(&self.archive, &inode)? {
            Some(stream) => stream.read_at(offset, &mut bytes)?,
            None => names.read_packed(number, offset, &mut bytes)?,
        };
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Writes content of a file. `kills` says that it loses the privileges that it gives to those who execute it.
    pub(crate) fn write(
        &self,
        number: InodeNumber,
        offset: u64,
        bytes: &[u8],
        kills: bool,
    ) -> Result<(), Errno> {
        self.change(Need::Room(bytes.len()), |names| {
            self.begin_content(number, kills)?;
            self.with_content(number, |content| {
                if self.stays_packed(content, names, number)?
                    && names.write_packed(number, Some(offset), bytes)?
                {
                    return Ok(());
                }
                let was_packed = is_packed(content, names, number)?;
                let stream = self.writable(content, names, number)?;
                let gap = offset.saturating_sub(stream.len()?);
                if gap > 0 || was_packed {
                    self.check_added(gap.saturating_add(bytes.len() as u64))?;
                }
                Ok(stream.write_at(offset, bytes)?)
            })
        })
    }

    /// Sets the length of a file. Added bytes are zeros, which take space like any others.
    pub(crate) fn set_length(
        &self,
        number: InodeNumber,
        length: u64,
        kills: bool,
    ) -> Result<(), Errno> {
        if length == 0 {
            return self.change(Need::Nothing, |names| {
                self.begin_content(number, kills)?;
                self.with_content(number, |content| content.clear(names, number))
            });
        }
        self.change(Need::Room(0), |names| {
            self.begin_content(number, kills)?;
            self.with_content(number, |content| {
                if self.stays_packed(content, names, number)?
                    && names.set_packed_len(number, length)?
                {
                    return Ok(());
                }
                check_length(length)?;
                let stream = self.writable(content, names, number)?;
                self.check_added(length.saturating_sub(stream.len()?))?;
                Ok(stream.set_len(length)?)
            })
        })
    }

    pub(crate) fn allocate(&self, number: InodeNumber, wanted: Allocation) -> Result<(), Errno> {
        let end = wanted.offset.checked_add(wanted.length).ok_or(Errno::EFBIG)?;
        check_length(end)?;
        self.change(Need::Room(0), |names| {
            self.begin_content(number, true)?;
            self.with_content(number, |content| {
                let stream = self.writable(content, names, number)?;
                let before = stream.len()?;
                let zeroed =
                    if wanted.zeroes { wanted.offset.min(end)..end.min(before) } else { 0..0 };
                let added = end.saturating_sub(before);
                self.check_added(added.saturating_add(zeroed.end.saturating_sub(zeroed.start)))?;
                write_zeros(stream, zeroed.start, zeroed.end)?;
                if !wanted.keeps_size && end > before {
                    stream.set_len(end)?;
                }
                Ok(())
            })
        })
    }

    /// Returns whether a change leaves a file packed, which packs all of it again at the commit.
    fn stays_packed(
        &self,
        content: &Content,
        names: &Names<'_>,
        number: InodeNumber,
    ) -> Result<bool, Failure> {
        let stays = content.stays_packed(&self.archive, names, number)?;
        if stays {
            self.forget_room();
        }
        Ok(stays)
    }

    /// Returns the stream of a file, to change it. A packed file gets one of its own, if there is room for it.
    fn writable<'c>(
        &self,
        content: &'c mut Content,
        names: &Names<'_>,
        number: InodeNumber,
    ) -> Result<&'c mut Stream, Failure> {
        if is_packed(content, names, number)? {
            self.forget_room();
        }
        content.writable(&self.archive, names, number)
    }

    /// Fails if there is no room to write this many bytes, before any is written.
    fn check_added(&self, bytes: u64) -> Result<(), Failure> {
        if bytes == 0 {
            return Ok(());
        }
        self.forget_room();
        if has_room(&self.archive, bytes)? { Ok(()) } else { Err(Errno::ENOSPC.into()) }
    }

    /// Fails if there is no room for extended attributes that are written again as a whole.
    pub(crate) fn check_extended(&self, change: &Change) -> Result<(), Failure> {
        let bytes = change.bytes() as u64;
        // What fits in a block or two is in the room of any change.
        if bytes > 2 * u64::from(CONTENT_BYTES) { self.check_added(bytes) } else { Ok(()) }
    }

    /// Passes the content of a file, open or not. Only with the turn.
    fn with_content<T>(
        &self,
        number: InodeNumber,
        work: impl FnOnce(&mut Content) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match self.file(number) {
            Some(file) => work(&mut file.content()),
            None => work(&mut Content::default()),
        }
    }

    /// Notes that content is about to change. The first change after a commit sets the times. Only with the turn.
    fn begin_content(&self, number: InodeNumber, kills: bool) -> Result<(), Failure> {
        if self.file(number).is_some_and(|file| file.is_orphan()) {
            return Ok(());
        }
        let names = self.archive.names();
        if self.is_changed(number) && !kills {
            return Ok(());
        }
        let inode = existing(&names, number)?;
        if inode.kind != EntryType::File {
            return Err(Errno::EINVAL.into());
        }
        let mut attributes = modified_now(number, inode.attributes);
        if kills {
            attributes.mode = without_privileges(attributes.mode);
        }
        let extended = changed_extended(&names, &inode, drop_capabilities)?;
        self.mark(number);
        let change = Change { attributes, extended };
        self.check_extended(&change)?;
        change.make(&names, number)
    }
}

/// Returns whether a file is packed, and not open as a stream.
fn is_packed(content: &Content, names: &Names<'_>, number: InodeNumber) -> Result<bool, Failure> {
    let inode = if content.is_open() { None } else { names.inode(number)? };
    Ok(inode.is_some_and(|inode| inode.slice.is_some()))
}

/// Fails if no file can be that long.
fn check_length(length: u64) -> Result<(), Errno> {
    let most = u64::from(BLOCKS_MAX) * DATA_SIZE_U64;
    if length > most { Err(Errno::EFBIG) } else { Ok(()) }
}

fn write_zeros(stream: &mut Stream, from: u64, to: u64) -> Result<(), Failure> {
    let zeros = vec![0; ZEROS];
    let mut at = from;
    while at < to {
        let part = usize::try_from(to - at).unwrap_or(ZEROS).min(ZEROS);
        stream.write_at(at, zeros.get(..part).unwrap_or_default())?;
        at += part as u64;
    }
    Ok(())
}
