//! The holes of packed files. Only the index states them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::content::Source;
use crate::records::{ADDRESS_MAX, Frames};

/// A hole, and whether the newest index states it.
pub(super) struct Hole {
    pub(super) addresses: Range<u64>,
    pub(super) is_newest: bool,
}

/// The holes that no file has got yet, by their first addresses. It takes about 40 bytes for each.
#[derive(Default)]
pub(super) struct Holes(BTreeMap<u64, Hole>);

impl Holes {
    /// Finds all holes. Those that overlap are left out, and those that would take most of the addresses: only an attacker
    /// with the key can have made them.
    pub(super) fn find(source: &Source<'_>) -> Holes {
        let (mut holes, mut end, mut total) = (BTreeMap::new(), 0, 0_u64);
        for found in source.frames.records::<Frames>(source.pages, &0) {
            let (first, frame) = found.value;
            if frame.stored.is_some() || first < end {
                continue;
            }
            total = total.saturating_add(frame.length);
            if total > ADDRESS_MAX / 2 {
                break;
            }
            end = first.saturating_add(frame.length);
            let hole = Hole { addresses: first..end, is_newest: found.is_newest };
            holes.insert(first, hole);
        }
        Holes(holes)
    }

    /// Returns whether a hole begins at one of these addresses.
    pub(super) fn has_any(&self, addresses: Range<u64>) -> bool {
        !addresses.is_empty() && self.0.range(addresses).next().is_some()
    }

    /// Takes the holes that begin at these addresses, in order. A hole is in one file, so that the new archive has no more
    /// holes than the old one, even if several inodes name the same hole.
    pub(super) fn take(&mut self, addresses: Range<u64>) -> Vec<Hole> {
        let mut taken = Vec::new();
        while !addresses.is_empty()
            && let Some((&first, _)) = self.0.range(addresses.clone()).next()
        {
            let hole = self.0.remove(&first);
            taken.extend(hole.map(|hole| Hole {
                addresses: hole.addresses.start..hole.addresses.end.min(addresses.end),
                ..hole
            }));
        }
        taken
    }
}
