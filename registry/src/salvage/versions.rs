//! Versions of a stream: where the blocks of one version lie, as a record states it or as blocks show it that belong
//! together.
//!
//! Blocks of different versions are never put together. A record with its extents names the generation of every block.
//! Without them, blocks belong to one version if they were sealed in one step, and nothing contradicts it. Links between
//! neighbours prove nothing across steps: a block that is overwritten in place keeps them.

use std::collections::HashMap;

use ar7_engine::format::{BlockIndex, DATA_SIZE_U64, Generation, Run, StoredStream, StreamLayout};
use uuid::Uuid;

use super::index::Fragment;
use super::rebuilt::{Found, Pages, Rebuilt};
use crate::blocks::Segment;
use crate::records::{ExtentKey, Extents};

/// One version of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) stream: Uuid,
    /// Its blocks, in the order of their indexes, without overlaps.
    pub(super) segments: Vec<Segment>,
    /// Length in bytes.
    pub(super) length: u64,
    /// Whether its blocks were all of one version at one time: a record names them, or one step sealed all of them.
    pub(super) is_proven: bool,
}

impl Version {
    /// Returns the version that a record names, or `None` if no extent of the newest commit is left.
    pub(super) fn recorded(
        stored: &Found<StoredStream>,
        extents: &Rebuilt,
        pages: &Pages<'_>,
    ) -> Option<Version> {
        let record = &stored.value.record;
        let (segments, is_proven) = match (stored.value.layout, record.begin) {
            (StreamLayout::OneRun(generation), Some(begin)) => {
                let run = Run::new(begin, record.count)?;
                (vec![Segment { first: BlockIndex(0), run, generation }], stored.is_newest)
            }
            (StreamLayout::OneRun(_), None) => (Vec::new(), stored.is_newest),
            (StreamLayout::Extents, _) => {
                let segments = extents_of(record.identity, record.count, extents, pages);
                if segments.is_empty() {
                    return None;
                }
                (segments, stored.is_newest)
            }
        };
        let (stream, length) = (record.identity, record.length);
        Some(Version { stream, segments, length, is_proven })
    }

    /// Returns the generation of its newest block.
    pub(super) fn generation(&self) -> Generation {
        self.segments.iter().map(|segment| segment.generation).max().unwrap_or_default()
    }

    fn has(&self, fragment: &Fragment) -> bool {
        let at = self.segments.partition_point(|segment| segment.end() <= fragment.first.get());
        self.segments.get(at).is_some_and(|segment| {
            segment.generation == fragment.generation
                && segment.first <= fragment.first
                && segment.position(fragment.first.get()) == fragment.run.start()
        })
    }

    /// Returns the versions that `fragments`, all those of one stream, sorted, show, except the one that is known: the
    /// newest first.
    pub(super) fn unrecorded(fragments: &[Fragment], known: Option<&Version>) -> Vec<Version> {
        let is_other = |fragment: &&Fragment| known.is_none_or(|known| !known.has(fragment));
        let mut of_one_step: HashMap<Generation, Vec<Fragment>> = HashMap::new();
        for fragment in fragments.iter().filter(is_other) {
            let is_mixed = ar7_engine::fault!(MixVersions);
            let step = if is_mixed { Generation::default() } else { fragment.generation };
            of_one_step.entry(step).or_default().push(*fragment);
        }
        let mut versions = Vec::new();
        for together in of_one_step.into_values() {
            if together.windows(2).all(|pair| may_follow(&pair[0], &pair[1])) {
                versions.push(Version::of(&together));
            } else {
                // The stream was written twice in the step.
                versions.extend(chains(&together).iter().map(|chain| Version::of(chain)));
            }
        }
        versions.sort_by_key(|version| {
            let first = version.segments.first().map(|segment| segment.first);
            (std::cmp::Reverse(version.generation()), first)
        });
        versions
    }

    /// Returns the version of these fragments of one step. It is whole if its first and last block have no further
    /// neighbour. Its length is that of its blocks: nothing says where in the last block it ends.
    fn of(fragments: &[Fragment]) -> Version {
        let (first, last) = (&fragments[0], &fragments[fragments.len() - 1]);
        let is_one_chain = fragments.windows(2).all(|pair| follows(&pair[0], &pair[1]));
        let is_proven = is_one_chain
            && first.first.get() == 0
            && first.previous.is_none()
            && last.next.is_none();
        let segment = |fragment: &Fragment| Segment {
            first: fragment.first,
            run: fragment.run,
            generation: fragment.generation,
        };
        Version {
            stream: first.stream,
            segments: fragments.iter().map(segment).collect(),
            length: u64::from(last.end()) * DATA_SIZE_U64,
            is_proven,
        }
    }

    /// Sets the length that a record or an inode states. A version with another number of blocks is not the one that they
    /// mean, and of one without a length, nothing proves where it ends.
    pub(super) fn set_length(&mut self, length: Option<u64>) {
        match length {
            Some(length) if length.div_ceil(DATA_SIZE_U64) == self.length / DATA_SIZE_U64 => {
                self.length = length;
            }
            _ => self.is_proven = false,
        }
    }
}

/// Returns the extents that the newest commit has of a stream, without those that overlap others. An older extent may
/// name blocks of another version.
fn extents_of(stream: Uuid, count: u32, extents: &Rebuilt, pages: &Pages<'_>) -> Vec<Segment> {
    let from = ExtentKey { stream, first: BlockIndex(0) };
    let mut end = 0;
    let mut segments = Vec::new();
    for found in extents.records::<Extents>(pages, &from) {
        let (key, extent) = found.value;
        if key.stream != stream || key.first.get() >= count {
            break;
        }
        let segment = Segment { first: key.first, run: extent.run, generation: extent.generation };
        if found.is_newest && key.first.get() >= end {
            end = segment.end();
            segments.push(segment);
        }
    }
    segments
}

/// Returns whether each of two fragments names the other as its neighbour.
fn follows(one: &Fragment, other: &Fragment) -> bool {
    one.end() == other.first.get()
        && one.next == Some(other.run.start())
        && other.previous == Some(one.last())
}

/// Returns whether one fragment can lie before another one, next to it or with a gap between them.
fn may_follow(one: &Fragment, other: &Fragment) -> bool {
    let is_apart = one.end() < other.first.get() && one.next.is_some() && other.previous.is_some();
    is_apart || follows(one, other)
}

/// Splits sorted fragments of one stream and one step into chains of neighbours.
fn chains(fragments: &[Fragment]) -> Vec<Vec<Fragment>> {
    let successor = |one: &Fragment| {
        let start = one.next?;
        let place = (one.stream, BlockIndex(one.end()), start);
        let place_of = |other: &Fragment| (other.stream, other.first, other.run.start());
        let begin = fragments.partition_point(|other| place_of(other) < place);
        let end = fragments.partition_point(|other| place_of(other) <= place);
        let only = fragments[begin..end].first().filter(|_| end - begin == 1)?;
        follows(one, only).then_some(begin)
    };
    let next: Vec<Option<usize>> = fragments.iter().map(successor).collect();
    let mut predecessors = vec![0_u8; fragments.len()];
    for &at in next.iter().flatten() {
        predecessors[at] = predecessors[at].saturating_add(1);
    }
    let mut chains = Vec::new();
    for start in (0..fragments.len()).filter(|&at| predecessors[at] != 1) {
        let mut chain = vec![fragments[start]];
        let mut at = start;
        while let Some(following) = next[at].filter(|&following| predecessors[following] == 1) {
            chain.push(fragments[following]);
            at = following;
        }
        chains.push(chain);
    }
    chains
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::Position;

    use super::*;

    /// Returns blocks `first` to `last` of a stream at `start`, sealed in a step, as the middle of a longer stream.
    fn fragment(step: u32, first: u32, last: u32, start: u32) -> Fragment {
        let generation = Generation { session: 1, step, salt: 0 };
        let run = Run::new(Position::at(start), last - first + 1).unwrap();
        let previous = start.checked_sub(1).and_then(Position::new);
        let next = Position::new(run.end());
        let (stream, first) = (Uuid::from_u128(99), BlockIndex(first));
        Fragment { stream, first, run, generation, previous, next }
    }

    fn first(fragment: Fragment) -> Fragment {
        Fragment { previous: None, ..fragment }
    }

    fn last(fragment: Fragment) -> Fragment {
        Fragment { next: None, ..fragment }
    }

    /// Returns the ranges of indexes of each version, and whether it is proven.
    fn versions(fragments: &[Fragment]) -> Vec<(Vec<(u32, u32)>, bool)> {
        let mut fragments = fragments.to_vec();
        fragments.sort_unstable_by_key(Fragment::order);
        let found = Version::unrecorded(&fragments, None);
        let ranges = |version: &Version| {
            version.segments.iter().map(|segment| (segment.first.get(), segment.end())).collect()
        };
        found.iter().map(|version| (ranges(version), version.is_proven)).collect()
    }

    #[test]
    fn blocks_of_one_step_are_one_version_with_gaps() {
        let whole = last(first(fragment(5, 0, 9, 20)));
        assert_eq!(versions(&[whole]), [(vec![(0, 10)], true)]);
        let (head, tail) = (first(fragment(5, 0, 3, 20)), last(fragment(5, 6, 9, 26)));
        assert_eq!(versions(&[head, tail]), [(vec![(0, 4), (6, 10)], false)]);
        assert_eq!(versions(&[tail]), [(vec![(6, 10)], false)], "without a beginning");
    }

    #[test]
    fn blocks_of_two_steps_are_never_one_version() {
        // A block that was overwritten in place keeps its links, so they prove nothing.
        let (head, tail) = (first(fragment(5, 0, 3, 20)), last(fragment(6, 4, 9, 24)));
        let apart = [(vec![(4, 10)], false), (vec![(0, 4)], false)];
        assert_eq!(versions(&[head, tail]), apart);
        let behind_a_gap = last(fragment(6, 5, 9, 25));
        assert_eq!(versions(&[head, behind_a_gap])[0], (vec![(5, 10)], false));
    }

    #[test]
    fn a_stream_that_was_cut_and_written_again_in_one_step_is_two_versions() {
        // What is left of the first version, whole, and of the second one, whose beginning is lost.
        let (old, new) = (last(first(fragment(5, 0, 3, 20))), last(fragment(5, 4, 9, 44)));
        assert_eq!(versions(&[old, new]).len(), 2, "the first one ends before the second begins");
        let new = last(fragment(5, 6, 9, 46));
        assert_eq!(versions(&[old, new]).len(), 2, "with a gap between them");
        let (head, tail) = (first(fragment(5, 0, 3, 20)), last(fragment(5, 4, 9, 44)));
        assert_eq!(versions(&[head, tail]).len(), 2, "neighbours that do not name each other");
    }

    #[test]
    fn two_versions_of_a_block_are_never_in_one() {
        let old = last(first(fragment(5, 0, 9, 20)));
        let new = last(first(fragment(6, 0, 9, 40)));
        assert_eq!(versions(&[old, new]), [(vec![(0, 10)], true), (vec![(0, 10)], true)]);
        // A block that was sealed twice in one step.
        let twice = [first(fragment(5, 0, 3, 20)), last(fragment(5, 2, 5, 60))];
        assert_eq!(versions(&twice).len(), 2);
        // The next block in a shadow block and in its home location.
        let head = first(fragment(5, 0, 3, 20));
        let (home, shadow) = (last(fragment(6, 4, 4, 24)), last(fragment(7, 4, 4, 24)));
        assert_eq!(versions(&[head, home, shadow]).len(), 3);
    }

    #[test]
    fn a_length_that_takes_other_blocks_belongs_to_another_version() {
        let fragments = [last(first(fragment(5, 0, 1, 20)))];
        let with_length = |length| {
            let mut version = Version::unrecorded(&fragments, None).remove(0);
            version.set_length(length);
            (version.length, version.is_proven)
        };
        assert_eq!(with_length(Some(5000)), (5000, true));
        assert_eq!(with_length(Some(9000)), (8016, false));
        assert_eq!(with_length(None), (8016, false), "nothing states the end");
    }
}
