//! Walks through the directories of an archive, which may be hostile: every name is checked, and every directory is
//! entered once: only from its parent, and only by one name. A directory whose record is unreadable names no parent; it is
//! entered where it is found first.

use std::collections::VecDeque;
use std::path::PathBuf;

use ar7_engine::format::Timestamp;
use ar7_engine::{Check, Error as EngineError};
use ar7_registry::Snapshot;
use ar7_registry::names::Entry;
use ar7_registry::records::{Attributes, EntryType, Inode, InodeNumber, validate_name};
use roaring::RoaringTreemap;

use crate::error::Error;
use crate::path::to_path;
use crate::source::Pages;

/// The number of entries to read at a time.
const PAGE: usize = 64;

/// The number of directories on the way to the present one whose entries are kept. Those further up are read again.
const PAGES_MAX: usize = 16;

/// What is set in place of attributes that are unknown.
const UNKNOWN: Attributes = Attributes {
    mode: 0o700,
    uid: 0,
    gid: 0,
    modified: Timestamp { seconds: 0, nanoseconds: 0 },
    origin: None,
};

/// An entry of an archive.
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) number: InodeNumber,
    pub(super) inode: Inode,
    /// Whether this is a directory whose record is unreadable, which was reported. Its attributes are unknown, and only
    /// its entries are left.
    pub(super) is_lost: bool,
}

impl Found {
    pub(super) fn is_directory(&self) -> bool {
        self.inode.kind == EntryType::Directory
    }
}

/// An entry that cannot be read.
pub(super) struct Unreadable {
    /// Its path in the archive.
    pub(super) path: PathBuf,
    pub(super) error: Box<Error>,
}

impl Unreadable {
    pub(super) fn new(path: PathBuf, error: Error) -> Unreadable {
        Unreadable { path, error: Box::new(error) }
    }
}

/// One step of a walk.
#[expect(clippy::large_enum_variant, reason = "most steps are entries")]
pub(super) enum Step {
    /// An entry. If it is a directory, calling [`Walk::enter`] makes its entries follow.
    Entry(Found),
    /// The end of the directory that was entered last.
    Left,
}

/// A walk through the entries below a directory in the order of names. Each directory comes before its entries.
///
/// It keeps no path for each level, so that the memory for a deep tree is proportional to its depth.
pub(super) struct Walk<'a> {
    snapshot: &'a Snapshot,
    frames: Vec<Frame>,
    /// A directory whose record is unreadable: the next step.
    lost: Option<Found>,
    /// The directories that were entered.
    entered: RoaringTreemap,
    /// Directories that were entered although their record is unreadable.
    entered_lost: RoaringTreemap,
    /// The path of the present directory in the archive.
    path: Vec<u8>,
}

struct Frame {
    pages: Pages,
    /// The length of the path of the directory above.
    above: usize,
    entries: VecDeque<Entry>,
    /// Whether the caller chose the entries, so that no page follows them.
    is_chosen: bool,
}

impl<'a> Walk<'a> {
    /// Creates a walk through the directory with this number and path: all of its entries, or those that the caller
    /// chose.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        directory: InodeNumber,
        path: Vec<u8>,
        chosen: Option<VecDeque<Entry>>,
    ) -> Walk<'a> {
        let mut walk = Walk {
            snapshot,
            frames: Vec::new(),
            lost: None,
            entered: RoaringTreemap::new(),
            entered_lost: RoaringTreemap::new(),
            path,
        };
        walk.push(directory, chosen);
        walk
    }

    /// Returns the next step, or `None` at the end. An error concerns one entry, or some names of one directory, and the
    /// walk continues after it.
    pub(super) fn next(&mut self) -> Option<Result<Step, Unreadable>> {
        if let Some(lost) = self.lost.take() {
            return Some(Ok(Step::Entry(lost)));
        }
        loop {
            let frame = self.frames.last_mut()?;
            if let Some(entry) = frame.entries.pop_front() {
                return Some(self.look_up(entry).map(Step::Entry));
            }
            let page = if frame.is_chosen { Ok(None) } else { frame.pages.next(self.snapshot) };
            match page {
                Ok(Some(page)) => frame.entries = page.into(),
                Ok(None) => {
                    self.leave();
                    return Some(Ok(Step::Left));
                }
                Err(error) => {
                    return Some(Err(Unreadable::new(to_path(self.path.clone()), error.into())));
                }
            }
        }
    }

    /// Makes the walk continue with the entries of a directory: all of them, or those that the caller chose. Fails
    /// unless the present directory is its parent.
    pub(super) fn enter(
        &mut self,
        found: &Found,
        chosen: Option<VecDeque<Entry>>,
    ) -> Result<(), Unreadable> {
        let present = self.frames.last().map(|frame| frame.pages.directory());
        if found.is_lost {
            // The names of an archive may still form a circle.
            if found.number == InodeNumber::ROOT || !self.entered_lost.insert(found.number.0) {
                return Err(self.named_twice(found));
            }
        } else if found.inode.parent != present {
            let parent = found.inode.parent.map_or(0, |parent| parent.0);
            let expected = present.map_or(0, |present| present.0);
            let error = EngineError::damaged(None, Check::Name, expected, parent).into();
            return Err(Unreadable::new(self.path_of(&found.name), error));
        }
        if !self.entered.insert(found.number.0) {
            return Err(self.named_twice(found));
        }
        self.forget_a_page();
        let above = self.path.len();
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend(&found.name);
        self.push(found.number, chosen);
        if let Some(frame) = self.frames.last_mut() {
            frame.above = above;
        }
        Ok(())
    }

    fn named_twice(&self, found: &Found) -> Unreadable {
        let expected = "one name for the directory";
        let error = EngineError::damaged(None, Check::Name, expected, found.number.0).into();
        Unreadable::new(self.path_of(&found.name), error)
    }

    /// Skips the rest of the directory that was entered last, without a step for its end.
    pub(super) fn leave(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.path.truncate(frame.above);
        }
    }

    /// Returns the path in the archive of a name in the present directory.
    pub(super) fn path_of(&self, name: &[u8]) -> PathBuf {
        if self.path.is_empty() {
            return to_path(name.to_vec());
        }
        to_path([&self.path, name].join(&b'/'))
    }

    fn push(&mut self, directory: InodeNumber, chosen: Option<VecDeque<Entry>>) {
        let is_chosen = chosen.is_some();
        self.frames.push(Frame {
            pages: Pages::new(directory, PAGE),
            above: 0,
            entries: chosen.unwrap_or_default(),
            is_chosen,
        });
    }

    /// Drops the entries that were read of a directory far up. They are read again when the walk returns to it.
    fn forget_a_page(&mut self) {
        let far = self.frames.len().checked_sub(PAGES_MAX);
        let Some(frame) = far.and_then(|far| self.frames.get_mut(far)) else { return };
        if frame.is_chosen {
            return;
        }
        if let Some(next) = frame.entries.front() {
            frame.pages.return_to(&next.name);
        }
        frame.entries = VecDeque::new();
    }

    fn look_up(&mut self, entry: Entry) -> Result<Found, Unreadable> {
        let Entry { name, inode: number, kind } = entry;
        // Ingest checks names, but another program may have created this archive.
        let checked = validate_name(&name).map_err(Error::from);
        match checked.and_then(|()| existing(self.snapshot, number)) {
            Ok(inode) if inode.kind == kind => Ok(Found { name, number, inode, is_lost: false }),
            Ok(inode) => {
                let (expected, found) = (kind.name(), inode.kind.name());
                let error = EngineError::damaged(None, Check::Name, expected, found).into();
                Err(Unreadable::new(self.path_of(&name), error))
            }
            Err(error) => {
                let unreadable = Unreadable::new(self.path_of(&name), error);
                if kind == EntryType::Directory && validate_name(&name).is_ok() {
                    let inode = Inode::new(kind, UNKNOWN);
                    self.lost = Some(Found { name, number, inode, is_lost: true });
                }
                Err(unreadable)
            }
        }
    }
}

fn existing(snapshot: &Snapshot, number: InodeNumber) -> Result<Inode, Error> {
    snapshot.inode(number)?.ok_or(Error::MissingInode { inode: number.0 })
}

/// Returns the entry at a path.
pub(super) fn find(snapshot: &Snapshot, path: &[u8]) -> Result<Found, Error> {
    let entry = snapshot.resolve(path)?;
    let inode = existing(snapshot, entry.inode)?;
    Ok(Found { name: entry.name, number: entry.inode, inode, is_lost: false })
}
