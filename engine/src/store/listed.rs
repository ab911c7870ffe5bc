//! The redo list of the current commit, as the writer keeps it in memory.

use std::collections::HashMap;

use super::committed::Redirects;
use super::space::run_set::RunSet;
use crate::format::{Generation, Position, RedoEntry, Run};

/// The redo list of a commit: the blocks of its chain, and its entries.
#[derive(Debug, Default)]
pub(super) struct Listed {
    chain: Vec<Position>,
    entries: HashMap<Position, Image>,
}

/// The newest version of a live block, in its shadow block.
#[derive(Debug, Clone, Copy)]
struct Image {
    shadow: Position,
    generation: Generation,
    /// Number of the commit that changed the block. No snapshot of an older commit may read the home location once
    /// the image is copied there.
    made_by: u64,
    /// Whether this writer has copied the image home. The list names it until the next commit.
    is_home: bool,
}

impl Listed {
    /// Creates the list that the commit `number` names. Entries of `before` that are still the newest version of
    /// their block keep the commit that made them.
    pub(super) fn new(
        chain: Vec<Position>,
        entries: &[RedoEntry],
        number: u64,
        before: &Listed,
    ) -> Listed {
        let image = |&RedoEntry { home, shadow, generation }: &RedoEntry| {
            let kept = before.entries.get(&home).filter(|image| image.shadow == shadow);
            let made_by = kept.map_or(number, |image| image.made_by);
            (home, Image { shadow, generation, made_by, is_home: false })
        };
        Listed { chain, entries: entries.iter().map(image).collect() }
    }

    /// Returns whether the commit names no list.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns every block of the list: its chain and its shadow blocks.
    pub(super) fn blocks(&self) -> RunSet {
        self.superseded(&Redirects::default())
    }

    /// Returns the blocks of the list that the next commit does not name again, given the images that it carries.
    pub(super) fn superseded(&self, carried: &Redirects) -> RunSet {
        let is_superseded =
            |&(home, image): &(&Position, &Image)| carried.shadow(*home) != Some(image.shadow);
        let shadows = self.entries.iter().filter(is_superseded).map(|(_, image)| image.shadow);
        self.chain.iter().copied().chain(shadows).map(Run::single).collect()
    }

    /// Returns the images that are not home yet.
    pub(super) fn pending(&self) -> Redirects {
        let pending = self.entries.iter().filter(|(_, image)| !image.is_home);
        Redirects(pending.map(|(&home, image)| (home, (image.shadow, image.generation))).collect())
    }

    /// Returns the pending images that may be copied home: those made by a commit up to `lowest`, the oldest commit
    /// that anybody reads. A snapshot of `lowest` or later reads a listed block from its shadow block.
    pub(super) fn due(&self, lowest: u64) -> Vec<RedoEntry> {
        let is_due = |image: &Image| {
            !image.is_home && (image.made_by <= lowest || crate::fault!(CopyUnderReaders))
        };
        let due = self.entries.iter().filter(|(_, image)| is_due(image));
        let entry = |(&home, image): (&Position, &Image)| RedoEntry {
            home,
            shadow: image.shadow,
            generation: image.generation,
        };
        let mut due: Vec<RedoEntry> = due.map(entry).collect();
        due.sort_unstable_by_key(|entry| entry.home);
        due
    }

    /// Records that images were copied home.
    pub(super) fn copied(&mut self, entries: &[RedoEntry]) {
        for entry in entries {
            if let Some(image) = self.entries.get_mut(&entry.home) {
                image.is_home = true;
            }
        }
    }
}
