//! Walks through the directories of an archive, which may be hostile. Depth and memory are bounded, every name is
//! checked.

use ar7_registry::Archive;
use ar7_registry::Names;
use ar7_registry::names::Entry;
use ar7_registry::records::{Inode, InodeNumber, validate_name};

use crate::exit::Failure;

/// The number of entries to read at a time.
const PAGE: usize = 64;

/// The maximum nesting of directories.
pub(crate) const DEPTH_MAX: usize = 2048;

/// A walk through everything below a directory in the order of names. Each directory comes before its entries.
pub(crate) struct Walk<'a> {
    /// Kept for the whole walk, because it caches the pages that it reads.
    names: Names<'a>,
    frames: Vec<Frame>,
}

struct Frame {
    directory: InodeNumber,
    path: Vec<u8>,
    page: std::vec::IntoIter<Entry>,
    last: Option<Vec<u8>>,
    /// The number of entries to read at a time: 1 after the first damage, to reach every entry before it.
    limit: usize,
    is_whole: bool,
}

/// One step of a walk.
#[expect(
    clippy::large_enum_variant,
    reason = "most steps are entries, which a box would only slow down"
)]
pub(crate) enum Step {
    /// An entry. If it is a directory, calling [`Walk::enter`] makes its entries follow.
    Entry(Found),
    /// The end of the directory that was entered last.
    Left,
}

/// An entry with its path.
pub(crate) struct Found {
    pub(crate) path: Vec<u8>,
    pub(crate) number: InodeNumber,
    pub(crate) inode: Inode,
}

impl<'a> Walk<'a> {
    /// Creates a walk through everything below `directory`.
    pub(crate) fn new(archive: &'a Archive, directory: InodeNumber, path: Vec<u8>) -> Walk<'a> {
        let mut walk = Walk { names: archive.names(), frames: Vec::new() };
        walk.push(directory, path);
        walk
    }

    /// Returns the next step, or `None` at the end. An error concerns one entry or one directory, and the walk
    /// continues after it.
    pub(crate) fn next(&mut self) -> Option<Result<Step, Failure>> {
        loop {
            let frame = self.frames.last_mut()?;
            if let Some(entry) = frame.page.next() {
                let path = join(&frame.path, &entry.name);
                return Some(self.look_up(path, &entry).map(Step::Entry));
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

    /// Makes the walk continue with the entries of a directory.
    pub(crate) fn enter(&mut self, found: &Found) -> Result<(), Failure> {
        let path = || found.path.clone();
        if self.frames.len() >= DEPTH_MAX {
            return Err(Failure::TooDeep { path: path(), limit: DEPTH_MAX });
        }
        self.push(found.number, path());
        Ok(())
    }

    fn push(&mut self, directory: InodeNumber, path: Vec<u8>) {
        let page = Vec::new().into_iter();
        self.frames.push(Frame { directory, path, page, last: None, limit: PAGE, is_whole: false });
    }

    fn turn_page(&mut self) -> Result<(), Failure> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let page = match self.names.list(frame.directory, frame.last.as_deref(), frame.limit) {
            Ok(page) => page,
            Err(_) if frame.limit > 1 => {
                frame.limit = 1;
                return Ok(());
            }
            Err(error) => {
                frame.is_whole = true;
                return Err(Failure::Entry { path: frame.path.clone(), error });
            }
        };
        frame.is_whole = page.len() < frame.limit;
        frame.last = page.last().map(|entry| entry.name.clone()).or(frame.last.take());
        frame.page = page.into_iter();
        Ok(())
    }

    fn look_up(&self, path: Vec<u8>, entry: &Entry) -> Result<Found, Failure> {
        // Ingest checks names, but another program may have created this archive.
        if let Err(error) = validate_name(&entry.name) {
            return Err(Failure::Entry { path, error });
        }
        let inode = inode_at(&self.names, &path, entry.inode)?;
        Ok(Found { path, number: entry.inode, inode })
    }
}

fn inode_at(names: &Names<'_>, path: &[u8], number: InodeNumber) -> Result<Inode, Failure> {
    match names.inode(number) {
        Ok(Some(inode)) => Ok(inode),
        Ok(None) => Err(Failure::EntryWithoutInode { path: path.to_vec(), inode: number.0 }),
        Err(error) => Err(Failure::Entry { path: path.to_vec(), error }),
    }
}

/// Returns the path of a name in a directory.
fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        _ => [directory, name].join(&b'/'),
    }
}
