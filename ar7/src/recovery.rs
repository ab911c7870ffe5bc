//! What opening found.

use std::fmt;

use ar7_engine::format::Position;
use ar7_engine::store;

use crate::archive::Archive;
use crate::count::Count;

/// The faults that opening an archive found, from [`Archive::recovery`]. A writer has repaired what it could; a
/// reader only reports it.
///
/// Blocks are named by their number in the file. `Display` lists the faults in one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Recovery {
    /// Whether there was nothing to repair.
    pub is_clean: bool,
    /// Damaged copies of the header.
    pub headers: Vec<u32>,
    /// Copies of the header that are older than another: an interrupted change had not reached them, or a later write
    /// was lost.
    pub older_headers: Vec<u32>,
    /// Damaged meta slots.
    pub bad_slots: Vec<u32>,
    /// Older copies of the newest meta slot: the last writer did not close the archive.
    pub older_slots: Vec<u32>,
    /// Number of changed blocks that are not in their home locations yet.
    pub redo_blocks: usize,
    /// Damaged copies of blocks of the redo list whose other copy is good.
    pub bad_redo_copies: Vec<u32>,
    /// A block of the redo list of which both copies are damaged: changes of the last commits may be lost.
    pub lost_redo_block: Option<u32>,
    /// Whether a pair of meta slots has no good copy, so that the newest commit may be lost.
    pub lost_pair: bool,
    /// A meta slot that may have held a newer commit: it is damaged, or older than the other one of its pair.
    pub may_have_held_newer: Option<u32>,
    /// The one meta slot of the newest commit that is known to be good: a fault there would lose the commit. Only a reader
    /// reports it, and not while another process writes: a writer writes the other ones again when it opens the archive.
    pub only_copy: Option<u32>,
}

impl Archive {
    /// Returns the faults that opening found. An application should show [`Recovery::losses`] to its user.
    pub fn recovery(&self) -> Recovery {
        self.registry.store().recovery().into()
    }

    /// Returns the copies of index pages that reading finds damaged, and third copies of the newest commit
    /// and the header that a verification finds torn, as after a crash. Another copy of each is good, so
    /// nothing is lost yet. A writer replaces them in its next commit.
    pub fn damaged_copies(&self) -> DamagedCopies {
        DamagedCopies(self.registry.damaged_copies())
    }
}

/// The damaged copies that reading an archive found so far, from [`Archive::damaged_copies`]. It
/// outlives the archive.
#[derive(Clone)]
pub struct DamagedCopies(ar7_registry::DamagedCopies);

impl DamagedCopies {
    /// Returns the numbers of their blocks in the file, in order, up to a maximum.
    pub fn blocks(&self) -> Vec<u32> {
        self.0.positions().into_iter().map(Position::get).collect()
    }

    /// Returns the warning for users, if there are any.
    pub fn warning(&self) -> Option<String> {
        let blocks = self.blocks();
        let [first, others @ ..] = &blocks[..] else { return None };
        let more = match others.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!(
            "a copy is damaged at block {first}{more}; nothing is lost, because another one is good (the next change \
             of the archive replaces it)"
        ))
    }
}

impl fmt::Debug for DamagedCopies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DamagedCopies").field(&self.blocks()).finish()
    }
}

impl Recovery {
    /// Returns a warning for each fault that may have cost changes, or that leaves the newest commit with one good
    /// copy, for users.
    pub fn losses(&self) -> Vec<String> {
        let commit = self.may_have_held_newer.map(lost_commit);
        let only = self.only_copy.map(only_slot);
        let redo = self.lost_redo_block.map(|block| {
            format!(
                "the redo block {block} and its copy are damaged, so changes of the last commits may be lost (find \
                 them with verify)"
            )
        });
        commit.into_iter().chain(only).chain(redo).collect()
    }
}

/// Returns the warning for a meta slot that may have held a newer commit.
pub(crate) fn lost_commit(block: u32) -> String {
    format!(
        "the meta slot at block {block} is damaged or out of date, so the newest commit may be lost (check with verify \
         --receipt)"
    )
}

/// Returns the warning for the one meta slot of the newest commit that is known to be good.
pub(crate) fn only_slot(block: u32) -> String {
    format!(
        "of the meta slots of the newest commit, only the one at block {block} is known to be good, so the commit may be \
         lost with it (the next change of the archive, or repair, writes the others again)"
    )
}

impl From<&store::Recovery> for Recovery {
    fn from(found: &store::Recovery) -> Recovery {
        let numbers =
            |positions: &[Position]| positions.iter().map(|position| position.get()).collect();
        Recovery {
            is_clean: found.is_clean(),
            headers: numbers(&found.headers),
            older_headers: numbers(&[&found.older_headers[..], &found.outdated_headers].concat()),
            bad_slots: numbers(&found.bad_slots),
            older_slots: numbers(&found.older_slots),
            redo_blocks: found.redo_blocks,
            bad_redo_copies: numbers(&found.bad_redo_copies),
            lost_redo_block: found.lost_redo_block.map(Position::get),
            lost_pair: found.lost_pair,
            may_have_held_newer: found.may_have_held_newer.map(Position::get),
            only_copy: found.only_copy.map(Position::get),
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean && self.redo_blocks == 0 {
            return formatter.write_str("none needed");
        }
        let mut parts = Vec::new();
        for (what, positions) in [
            ("damaged headers", &self.headers),
            ("older headers", &self.older_headers),
            ("damaged meta slots", &self.bad_slots),
            ("older meta slots", &self.older_slots),
            ("damaged copies of redo blocks", &self.bad_redo_copies),
        ] {
            if !positions.is_empty() {
                parts.push(format!("{what} at {positions:?}"));
            }
        }
        if self.redo_blocks > 0 {
            parts.push(format!("{} on the redo list", Count(self.redo_blocks as u64, "block")));
        }
        if let Some(position) = self.lost_redo_block {
            parts.push(format!("both copies of the redo block {position} are damaged"));
        }
        if self.lost_pair {
            parts.push("a pair of meta slots is lost".to_owned());
        }
        if let Some(position) = self.may_have_held_newer {
            parts.push(format!("the meta slot at {position} may have held a newer commit"));
        }
        if let Some(position) = self.only_copy {
            parts.push(format!(
                "only the meta slot at {position} of the newest commit is known to be good"
            ));
        }
        formatter.write_str(&parts.join("; "))
    }
}
