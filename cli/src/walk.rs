//! Walking the directories of an archive, which may be hostile: bounded in depth and memory, every name checked,
//! every directory entered once.

use std::collections::HashSet;

use ar7_registry::Archive;
use ar7_registry::names::{Entry, EntryType, Inode, InodeNumber, validate_name};

use crate::exit::Failure;
use crate::names::join;

/// Entries that are listed at a time.
const PAGE: usize = 64;

/// Directories in directories at most. An extraction has one open for each.
pub(crate) const DEPTH_MAX: usize = 2048;

/// A walk through everything below a directory, in the order of the names, each directory before what is in it.
pub(crate) struct Walk<'a> {
    archive: &'a Archive,
    frames: Vec<Frame>,
    entered: HashSet<InodeNumber>,
}

struct Frame {
    directory: InodeNumber,
    path: Vec<u8>,
    page: std::vec::IntoIter<Entry>,
    last: Option<Vec<u8>>,
    is_whole: bool,
}

/// What a walk comes by.
pub(crate) enum Step {
    /// An entry. If it is a directory, [`Walk::enter`] makes its entries come next.
    Entry(Found),
    /// The end of the directory that was entered last.
    Left,
}

/// An entry and where it is.
pub(crate) struct Found {
    pub(crate) path: Vec<u8>,
    pub(crate) name: Vec<u8>,
    pub(crate) inode: Inode,
}

impl<'a> Walk<'a> {
    /// A walk through everything below `directory`.
    pub(crate) fn new(archive: &'a Archive, directory: InodeNumber, path: Vec<u8>) -> Walk<'a> {
        let mut walk = Walk { archive, frames: Vec::new(), entered: HashSet::new() };
        walk.entered.insert(directory);
        walk.push(directory, path);
        walk
    }

    /// The next step; None at the end. An error is about one entry or one directory: the walk
    /// goes on behind it.
    pub(crate) fn next(&mut self) -> Option<Result<Step, Failure>> {
        loop {
            let frame = self.frames.last_mut()?;
            if let Some(entry) = frame.page.next() {
                let path = join(&frame.path, &entry.name);
                return Some(self.look_up(path, entry).map(Step::Entry));
            }
            if frame.is_whole {
                self.frames.pop();
                return Some(Ok(Step::Left));
            }
            if let Err(failure) = self.turn_page() {
                return Some(Err(failure));
            }
        }
    }

    /// Goes on with what is in a directory that was found.
    pub(crate) fn enter(&mut self, found: &Found) -> Result<(), Failure> {
        let path = || found.path.clone();
        if self.frames.len() >= DEPTH_MAX {
            return Err(Failure::TooDeep { path: path(), limit: DEPTH_MAX });
        }
        if !self.entered.insert(found.inode.number) {
            return Err(Failure::EntryTwice { path: path() });
        }
        self.push(found.inode.number, path());
        Ok(())
    }

    /// Goes on behind the directory that was entered last, without a step for its end.
    pub(crate) fn leave(&mut self) {
        self.frames.pop();
    }

    fn push(&mut self, directory: InodeNumber, path: Vec<u8>) {
        let page = Vec::new().into_iter();
        self.frames.push(Frame { directory, path, page, last: None, is_whole: false });
    }

    fn turn_page(&mut self) -> Result<(), Failure> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let listed = self.archive.names().list(frame.directory, frame.last.as_deref(), PAGE);
        let page = listed.map_err(|error| {
            // What cannot be listed is left.
            frame.is_whole = true;
            Failure::Entry { path: frame.path.clone(), error }
        })?;
        frame.is_whole = page.len() < PAGE;
        frame.last = page.last().map(|entry| entry.name.clone());
        frame.page = page.into_iter();
        Ok(())
    }

    fn look_up(&self, path: Vec<u8>, entry: Entry) -> Result<Found, Failure> {
        // Checked on the way in, and once more here: the archive may be made by somebody else.
        if let Err(error) = validate_name(&entry.name) {
            return Err(Failure::Entry { path, error });
        }
        let inode = inode_at(self.archive, &path, entry.inode)?;
        Ok(Found { path, name: entry.name, inode })
    }
}

/// The inode that a path leads to.
pub(crate) fn find(archive: &Archive, path: &[u8]) -> Result<Inode, Failure> {
    let entry_error = |error| Failure::Entry { path: path.to_vec(), error };
    let (number, _) = archive.names().resolve(path).map_err(entry_error)?;
    inode_at(archive, path, number)
}

fn inode_at(archive: &Archive, path: &[u8], number: InodeNumber) -> Result<Inode, Failure> {
    match archive.names().inode(number) {
        Ok(Some(inode)) => Ok(inode),
        Ok(None) => {
            Err(Failure::EntryWithoutInode { path: path.to_vec(), inode: number.get() })
        }
        Err(error) => Err(Failure::Entry { path: path.to_vec(), error }),
    }
}

/// What an entry is, in a phrase.
pub(crate) fn type_phrase(kind: EntryType) -> &'static str {
    match kind {
        EntryType::File => "a file",
        EntryType::Directory => "a directory",
        EntryType::Symlink => "a symbolic link",
    }
}

/// The target of a symbolic link; a long one is in a stream.
pub(crate) fn target_of(archive: &Archive, path: &[u8], inode: &Inode) -> Result<Vec<u8>, Failure> {
    const TARGET_MAX: u64 = 1 << 16;
    if let Some(target) = &inode.target {
        return Ok(target.clone());
    }
    let entry_error = |error| Failure::Entry { path: path.to_vec(), error };
    let Some(identity) = inode.stream else { return Ok(Vec::new()) };
    let stream = archive.read_stream(identity).map_err(entry_error)?;
    let stream_bytes = stream.len().map_err(entry_error)?;
    if stream_bytes > TARGET_MAX {
        let path = path.to_vec();
        return Err(Failure::EntryLength { path, inode_bytes: inode.size, stream_bytes });
    }
    let mut target = vec![0; usize::try_from(stream_bytes).unwrap_or_default()];
    let length = stream.read_at(0, &mut target).map_err(entry_error)?;
    target.truncate(length);
    Ok(target)
}
