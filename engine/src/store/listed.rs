//! The redo list of the current commit, as the writer keeps it in memory.

use std::collections::{HashMap, HashSet};

use super::committed::{DueImage, Redirects};
use super::redo_list::RedoList;
use super::space::run_set::RunSet;
use crate::format::{BlockRef, DoubledRef, Position, RedoEntry, Run};

/// The redo list of a commit: its blocks, and the images that it names.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The blocks of the list, newest first.
    chain: Vec<DoubledRef>,
    /// Number of entries in these blocks, superseded ones included.
    length: usize,
    /// The live entries.
    images: HashMap<Position, Image>,
    /// Whether a block of the list, or its first copy, does not open. The next commit then writes the whole list again.
    is_damaged: bool,
    /// A block of the list that did not open when this writer opened the archive.
    lost: Option<Position>,
}

/// The newest version of a live block, in its shadow block.
#[derive(Debug, Clone, Copy)]
struct Image {
    shadow: BlockRef,
    /// Number of the commit that changed the block. No snapshot of an older commit may read the home location once
    /// the image is copied there.
    made_by: u64,
    state: State,
}

/// Where the newest version of a listed block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Only in the shadow block.
    Pending,
    /// In the home location too: this writer copied it. The list names it until the next commit.
    Home,
    /// In a shadow block that does not open. The list names it until the block is changed or freed.
    Bad,
}

/// A redo list that is written but that no commit names yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WrittenRedoList {
    pub(super) head: Option<DoubledRef>,
    pub(super) length: u32,
}

/// The change of the redo list by one commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListChange {
    /// The new entries, in order of home location.
    pub(super) entries: Vec<RedoEntry>,
    /// Whether they precede the entries of the previous list. Otherwise they replace them.
    pub(super) extends: bool,
}

impl Listed {
    /// Creates the list that the commit `number` names, as a new writer finds it.
    pub(super) fn opened(list: &RedoList, number: u64) -> Listed {
        let image = |(&home, &shadow): (&Position, &BlockRef)| {
            (home, Image { shadow, made_by: number, state: State::Pending })
        };
        Listed {
            chain: list.chain.clone(),
            length: list.length,
            images: list.shadows.iter().map(image).collect(),
            is_damaged: list.lost.is_some() || !list.bad_copies.is_empty(),
            lost: list.lost.as_ref().map(|(block, _)| block.position),
        }
    }

    /// Returns whether the commit names no list.
    pub(super) fn is_empty(&self) -> bool {
        self.chain.is_empty() && !self.is_damaged
    }

    /// Returns the number of live entries.
    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    /// Returns the reference to the list in the meta slot.
    pub(super) fn reference(&self) -> WrittenRedoList {
        let length = u32::try_from(self.length).expect("at most twice the number of live entries");
        WrittenRedoList { head: self.chain.first().copied(), length }
    }

    /// Returns the blocks of the list, newest first.
    pub(super) fn chain(&self) -> &[DoubledRef] {
        &self.chain
    }

    /// Returns the change that makes this list name exactly `redirects`. Of these, this transaction changed the blocks
    /// in `changed`.
    ///
    /// The list grows at its front, so that a commit next to a reader writes only what it changes. It is replaced if
    /// none of it stays, or if more than half of it would be superseded.
    pub(super) fn change(&self, redirects: &Redirects, changed: &HashSet<Position>) -> ListChange {
        let mut entries: Vec<RedoEntry> = redirects.entries_of(changed);
        if !crate::fault!(ForgetRemovals) {
            let is_removed = |home: &&Position| redirects.shadow(**home).is_none();
            let removed = self.images.keys().filter(is_removed);
            entries.extend(removed.map(|&home| RedoEntry { home, shadow: None }));
        }
        let total = self.length + entries.len();
        let superseded = total.saturating_sub(redirects.len());
        let extends =
            redirects.len() > changed.len() && !self.is_damaged && superseded <= total / 2;
        if !extends {
            entries = redirects.entries();
        }
        entries.sort_unstable_by_key(|entry| entry.home);
        ListChange { entries, extends }
    }

    /// Returns the list after a change by the commit `number`, which wrote the new entries to the blocks `chain`.
    pub(super) fn changed(
        &self,
        change: &ListChange,
        mut chain: Vec<DoubledRef>,
        redirects: &Redirects,
        number: u64,
    ) -> Listed {
        let mut length = change.entries.len();
        if change.extends {
            length += self.length;
            chain.extend(&self.chain);
        }
        let image = |(&home, &shadow): (&Position, &BlockRef)| {
            let kept = self.images.get(&home).filter(|image| image.shadow == shadow);
            let new = Image { shadow, made_by: number, state: State::Pending };
            (home, kept.copied().unwrap_or(new))
        };
        let images = redirects.shadows.iter().map(image).collect();
        Listed { chain, length, images, is_damaged: false, lost: self.lost }
    }

    /// Returns every block of the list: the copies of its blocks, and the shadow blocks.
    pub(super) fn blocks(&self) -> RunSet {
        self.superseded(false, &Redirects::default())
    }

    /// Returns the blocks of the list that the next commit, which names `redirects`, does not name again. Its list
    /// `extends` this one, or replaces it.
    pub(super) fn superseded(&self, extends: bool, redirects: &Redirects) -> RunSet {
        let is_superseded = |&(home, image): &(&Position, &Image)| {
            redirects.shadow(*home) != Some(image.shadow.position)
        };
        let shadows = self.images.iter().filter(is_superseded);
        let shadows = shadows.map(|(_, image)| image.shadow.position);
        let chain = if extends { &[] } else { &self.chain[..] };
        let chain = chain.iter().flat_map(|block| block.copies()).map(|copy| copy.position);
        shadows.chain(chain).map(Run::single).collect()
    }

    /// Returns the images that are not home yet.
    pub(super) fn pending(&self) -> Redirects {
        let pending = self.images.iter().filter(|(_, image)| image.state != State::Home);
        let shadows = pending.map(|(&home, image)| (home, image.shadow)).collect();
        Redirects { shadows, lost: self.lost }
    }

    /// Returns the home locations of the images that stay in their shadow blocks for readers. Those that do not open
    /// stay too, but not for a reader.
    pub(super) fn held(&self) -> impl Iterator<Item = Position> + '_ {
        let held = self.images.iter().filter(|(_, image)| image.state == State::Pending);
        held.map(|(&home, _)| home)
    }

    /// Returns the pending images that may be copied home: those made by a commit up to `lowest`, the oldest commit
    /// that anybody reads. A snapshot of `lowest` or later reads a listed block from its shadow block. `newest` is the
    /// number of the current commit.
    pub(super) fn due(&self, lowest: u64, newest: u64) -> Vec<DueImage> {
        let is_due = |image: &Image| {
            image.state != State::Home
                && (image.made_by <= lowest || crate::fault!(CopyUnderReaders))
        };
        let due = self.images.iter().filter(|(_, image)| is_due(image));
        let image = |(&home, image): (&Position, &Image)| DueImage {
            home,
            shadow: image.shadow,
            is_new: image.made_by == newest,
        };
        let mut due: Vec<DueImage> = due.map(image).collect();
        due.sort_unstable_by_key(|image| image.home);
        due
    }

    /// Records that images were copied home, except for those in `bad`, which do not open.
    pub(super) fn copied(&mut self, due: &[DueImage], bad: &HashSet<Position>) {
        for DueImage { home, .. } in due {
            if let Some(image) = self.images.get_mut(home) {
                image.state = if bad.contains(home) { State::Bad } else { State::Home };
            }
        }
    }
}
