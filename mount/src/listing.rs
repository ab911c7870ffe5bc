//! An open directory, whose offsets stay valid while names come and go.
//!
//! The handle keeps the names that it has returned. The offset after an entry is its place among them, plus those of
//! `.` and `..`. What follows an offset is first taken from the names that were returned before, and then from the
//! directory, above the last of them. So an entry that exists throughout is returned exactly once, even if others
//! are added or removed meanwhile.

use ar7_registry::Result;
use ar7_registry::names::Entry;
use ar7_registry::records::{EntryType, InodeNumber};

use crate::view::View;

/// Entries that are read from the archive at a time.
const CHUNK: usize = 256;

/// An open directory.
pub(crate) struct Listing {
    directory: InodeNumber,
    parent: InodeNumber,
    /// The entries that were read, in order.
    entries: Vec<Entry>,
    reached_end: bool,
}

impl Listing {
    pub(crate) fn new(directory: InodeNumber, parent: InodeNumber) -> Listing {
        Listing { directory, parent, entries: Vec::new(), reached_end: false }
    }

    pub(crate) fn directory(&self) -> InodeNumber {
        self.directory
    }

    /// Passes the entries from `offset` on, each with the offset after it, until `add` returns true because there is no
    /// room for more.
    pub(crate) fn read(
        &mut self,
        view: &View,
        offset: u64,
        mut add: impl FnMut(u64, &Entry) -> bool,
    ) -> Result<()> {
        if offset == 0 {
            // Also what `rewinddir` asks for: the directory as it is now.
            self.entries.clear();
            self.reached_end = false;
        }
        let mut at = usize::try_from(offset).unwrap_or(usize::MAX);
        loop {
            let Some(entry) = self.entry(view, at)? else { return Ok(()) };
            at += 1;
            if add(at as u64, &entry) {
                return Ok(());
            }
        }
    }

    fn entry(&mut self, view: &View, at: usize) -> Result<Option<Entry>> {
        let dots = [(&b"."[..], self.directory), (b"..", self.parent)];
        if let Some((name, inode)) = dots.get(at) {
            let kind = EntryType::Directory;
            return Ok(Some(Entry { name: name.to_vec(), inode: *inode, kind }));
        }
        let Some(at) = at.checked_sub(dots.len()) else { return Ok(None) };
        if at == self.entries.len() && !self.reached_end {
            let last = self.entries.last().map(|entry| &entry.name[..]);
            let more = view.list(self.directory, last, CHUNK)?;
            self.reached_end = more.len() < CHUNK;
            self.entries.extend(more);
        }
        Ok(self.entries.get(at).cloned())
    }
}
