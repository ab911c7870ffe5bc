//! Deleting streams that are open.

use ar7_engine::format::{Run, StreamLayout};
use uuid::Uuid;

use super::{Archive, State};
use crate::error::{Error, Result};
use crate::records::Streams;

impl Archive {
    /// Deletes a stream of no inode once its handle is closed, or the process ends. It must be open for writing.
    pub fn delete_on_close(&self, identity: Uuid) -> Result<()> {
        let mut state = self.state()?;
        let state = state.writing()?;
        if let Some(inode) = state.stored(identity)?.and_then(|stored| stored.inode) {
            return Err(Error::StreamIsNamed { stream: identity, inode: inode.get() });
        }
        state.orphan(identity).inspect_err(|error| state.fail(error))
    }
}

impl State {
    /// Takes an open stream from its inode. It is deleted once its handle is closed.
    pub(crate) fn orphan(&mut self, identity: Uuid) -> Result<()> {
        let open = self.open.get_mut(&identity).filter(|open| open.held);
        let open = open.ok_or(Error::NoStream { stream: identity })?;
        (open.stored.inode, open.changed) = (None, true);
        self.trees.remove::<Streams>(&identity)?;
        self.orphans.add(identity);
        Ok(())
    }

    /// Returns whether a stream is open for writing.
    pub(crate) fn is_held(&self, identity: Uuid) -> bool {
        self.open.get(&identity).is_some_and(|open| open.held)
    }

    /// Gives each of these streams that has one block a second one: a pending deletion has extents, and a stream with
    /// extents has two blocks or more.
    pub(super) fn pad_orphans(&mut self) -> Result<()> {
        let State { trees, open, orphans, .. } = self;
        let mut added = 0;
        for identity in orphans.identities() {
            let Some(open) = open.get_mut(identity).filter(|open| open.count == 1) else {
                continue;
            };
            let before = open.dirty.len();
            open.push_block(trees, &[])?;
            added += open.dirty.len() - before;
        }
        self.dirty_blocks += added;
        Ok(())
    }

    /// Deletes a stream whose handle was closed.
    pub(super) fn end_orphan(&mut self, identity: Uuid) -> Result<()> {
        let Some(mut open) = self.open.remove(&identity) else { return Ok(()) };
        self.forget_dirty(&open);
        if let Some(tail) = open.reserved_tail {
            self.trees.free(Run::single(tail))?;
        }
        if let (StreamLayout::OneRun(_), Some(begin)) =
            (open.stored.layout, open.stored.record.begin)
        {
            if let Some(run) = Run::new(begin, open.stored.record.count) {
                self.trees.free(run)?;
            }
            open.stored.record.count = 0;
            open.stored.record.begin = None;
        }
        self.orphans.record(&mut self.trees, &mut open.stored)?;
        self.orphans.remove(identity);
        Ok(())
    }
}
