//! The events of a simulated disk, and the commits that may be found after each.

use ar7_engine::device::simulated::{Event, EventKind, Medium, SealedBlocks};

use super::content::Content;
use super::scenario::Mark;

/// The log of a disk, and the content of each commit in it.
pub(super) struct History<'a> {
    /// The disk before the first event.
    pub(super) before: &'a Medium,
    pub(super) log: &'a [Event],
    pub(super) sealed: &'a SealedBlocks,
    /// The content of each commit, in order.
    pub(super) commits: &'a [Content],
    /// The last commit that may be visible before the first event.
    pub(super) begun: usize,
    /// The contents that may be found after the last event, if the marks in the log do not determine them.
    pub(super) end: Option<&'a [Content]>,
}

/// The commits that may be found after an event, according to the marks before it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Commits {
    pub(super) acknowledged: usize,
    pub(super) begun: usize,
}

impl Commits {
    /// Returns the contents that may be found now.
    pub(super) fn allowed<'a>(&self, history: &History<'a>) -> &'a [Content] {
        // A commit that failed is not listed, unless a later one has its number.
        let last = self.begun.min(history.commits.len() - 1);
        &history.commits[self.acknowledged..=last]
    }

    pub(super) fn note(&mut self, event: &Event) {
        if let EventKind::Mark(mark) = event.kind() {
            match Mark::decode(mark) {
                Mark::Begun(commit) => self.begun = commit,
                Mark::Acknowledged(commit) => self.acknowledged = commit,
            }
        }
    }
}
