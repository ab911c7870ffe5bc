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
use crate::metadata::Wanted;
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
            self.with_content(number, |content| {
                let write = || names.write_packed(number, Some(offset), bytes);
                if self.change_packed(content, names, number, kills, write)? {
                    return Ok(());
                }
                self.check_content(content, names, number, |length, is_packed| {
                    let gap = offset.saturating_sub(length);
                    let is_counted = gap > 0 || is_packed;
                    if is_counted { gap.saturating_add(bytes.len() as u64) } else { 0 }
                })?;
                self.begin_content(content, names, number, kills)?;
                let stream = content.writable(&self.archive, names, number)?;
                Ok(stream.write_at(offset, bytes)?)
            })
        })
    }

    /// Sets the length of a file, and attributes, in one change. Added bytes are zeros, which take space like any others.
    pub(crate) fn set_length(
        &self,
        number: InodeNumber,
        length: u64,
        kills: bool,
        wanted: Wanted,
    ) -> Result<(), Errno> {
        let need = if length == 0 { Need::Nothing } else { Need::Room(0) };
        self.change(need, |names| {
            self.check_attributes(names, number, wanted)?;
            self.with_content(number, |content| {
                if length == 0 {
                    self.begin_content(content, names, number, kills)?;
                    return content.clear(names, number);
                }
                let set = || names.set_packed_len(number, length);
                if self.change_packed(content, names, number, kills, set)? {
                    return Ok(());
                }
                check_length(length)?;
                let added = |before: u64, _| length.saturating_sub(before);
                self.check_content(content, names, number, added)?;
                self.begin_content(content, names, number, kills)?;
                let stream = content.writable(&self.archive, names, number)?;
                Ok(stream.set_len(length)?)
            })?;
            if wanted.is_empty() { Ok(()) } else { self.make_attributes(names, number, wanted) }
        })
    }

    pub(crate) fn allocate(&self, number: InodeNumber, wanted: Allocation) -> Result<(), Errno> {
        let end = wanted.offset.checked_add(wanted.length).ok_or(Errno::EFBIG)?;
        check_length(end)?;
        self.change(Need::Room(0), |names| {
            self.with_content(number, |content| {
                let zeroed = |before: u64| {
                    if wanted.zeroes { wanted.offset.min(end)..end.min(before) } else { 0..0 }
                };
                let before = self.check_content(content, names, number, |before, _| {
                    let zeroed = zeroed(before);
                    let zeros = zeroed.end.saturating_sub(zeroed.start);
                    end.saturating_sub(before).saturating_add(zeros)
                })?;
                self.begin_content(content, names, number, true)?;
                let stream = content.writable(&self.archive, names, number)?;
                write_zeros(stream, zeroed(before).start, zeroed(before).end)?;
                if !wanted.keeps_size && end > before {
                    stream.set_len(end)?;
                }
                Ok(())
            })
        })
    }

    /// Makes a change that leaves a file packed, if it is too long for a stream of its own: the commit packs all of it again.
    /// Returns whether it was made. A change that is refused leaves the times, too.
    fn change_packed(
        &self,
        content: &Content,
        names: &Names<'_>,
        number: InodeNumber,
        kills: bool,
        change: impl FnOnce() -> ar7_registry::Result<bool>,
    ) -> Result<bool, Failure> {
        if !content.stays_packed(&self.archive, names, number)? {
            return Ok(false);
        }
        self.forget_room();
        let times = self.content_change(content, names, number, kills)?;
        if !change()? {
            return Ok(false);
        }
        // Until the program has its answer, others may read what was there before.
        self.make_content_change(names, number, times)?;
        Ok(true)
    }

    /// Fails if there is no room for the bytes that a change adds to a file of this length, packed or not, and for the content
    /// of a packed file, which gets a stream of its own. Called before anything changes. Returns the length of the file.
    fn check_content(
        &self,
        content: &Content,
        names: &Names<'_>,
        number: InodeNumber,
        added: impl FnOnce(u64, bool) -> u64,
    ) -> Result<u64, Failure> {
        let (length, is_packed) = if let Some(length) = content.length()? {
            (length, false)
        } else {
            let inode = existing(names, number)?;
            (inode.size, inode.slice.is_some())
        };
        let unpacked = if is_packed { length } else { 0 };
        self.check_added(added(length, is_packed).saturating_add(unpacked))?;
        Ok(length)
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

    /// Notes that content is about to change, and sets the times. Only with the turn.
    fn begin_content(
        &self,
        content: &Content,
        names: &Names<'_>,
        number: InodeNumber,
        kills: bool,
    ) -> Result<(), Failure> {
        let change = self.content_change(content, names, number, kills)?;
        self.make_content_change(names, number, change)
    }

    /// Returns what a change of content changes in the inode: nothing after the first change since a commit.
    fn content_change(
        &self,
        content: &Content,
        names: &Names<'_>,
        number: InodeNumber,
        kills: bool,
    ) -> Result<Option<Change>, Failure> {
        if content.is_orphan() || self.is_changed(number) && !kills {
            return Ok(None);
        }
        let inode = existing(names, number)?;
        if inode.kind != EntryType::File {
            return Err(Errno::EINVAL.into());
        }
        let mut attributes = modified_now(number, inode.attributes);
        if kills {
            attributes.mode = without_privileges(attributes.mode);
        }
        let extended = changed_extended(names, &inode, drop_capabilities)?;
        let change = Change { attributes, extended };
        self.check_extended(&change)?;
        Ok(Some(change))
    }

    fn make_content_change(
        &self,
        names: &Names<'_>,
        number: InodeNumber,
        change: Option<Change>,
    ) -> Result<(), Failure> {
        let Some(change) = change else { return Ok(()) };
        self.mark(number);
        change.make(names, number)
    }
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
