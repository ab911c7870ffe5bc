//! What the open transaction changed in a packed file: ranges, and where their bytes are.

use std::collections::BTreeMap;
use std::ops::Range;

use uuid::Uuid;

/// What the open transaction changed in a packed file.
pub(super) struct Overlay {
    /// The file's slice before the change.
    pub(super) slice: (u64, u64),
    /// Number of bytes from the begin of the slice on that may still be content.
    pub(super) kept: u64,
    /// Number of bytes that the slice took before the change, or its length without holes if nothing is compressed.
    pub(super) stored: u64,
    /// Length of the file.
    pub(super) length: u64,
    pub(super) changes: Changes,
    /// The stream with the changed bytes, and the epoch of its handle.
    pub(super) stream: (Uuid, u64),
    /// Length of that stream.
    pub(super) written: u64,
    /// A range of it that holds nothing any more.
    pub(super) spare: Range<u64>,
}

/// Where bytes of a changed file are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the slice, from this address on.
    Slice(u64),
    /// In the stream with the changed bytes, from this offset on.
    Stream(u64),
    /// Nowhere: they are zeros.
    Hole,
}

impl Overlay {
    /// Returns whether the file is as it was before.
    pub(super) fn is_unchanged(&self) -> bool {
        let before = self.slice.1;
        (self.kept, self.length, self.changes.len()) == (before, before, 0)
    }

    /// Returns where in the stream to write `length` bytes that do not replace others there.
    pub(super) fn free_place(&self, length: u64) -> u64 {
        let fits = length <= self.spare.end - self.spare.start;
        if fits { self.spare.start } else { self.written }
    }

    /// Records that a range of the file is at a free place of the stream. It was at `replaced` before, if it was in one
    /// changed range.
    pub(super) fn change(&mut self, range: Range<u64>, at: u64, replaced: Option<u64>) {
        let length = range.end - range.start;
        if at == self.written {
            self.written += length;
        } else {
            self.spare = 0..0;
        }
        if let Some(replaced) = replaced {
            self.spare = replaced..replaced + length;
        }
        self.changes.set(range, at);
    }

    /// Returns the place of the first byte of a range, and where the place ends, at most at the end of the range.
    pub(super) fn place_at(&self, range: Range<u64>) -> (u64, Place) {
        let (end, changed) = self.changes.at(range.clone());
        match changed {
            Some(offset) => (end, Place::Stream(offset)),
            None if range.start < self.kept => {
                (end.min(self.kept), Place::Slice(self.slice.0 + range.start))
            }
            None => (end, Place::Hole),
        }
    }
}

/// Ranges that do not overlap. The bytes of each are at consecutive offsets of a stream.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<u64, Change>);

/// A range, whose begin is the key.
#[derive(Debug, Clone, Copy)]
struct Change {
    end: u64,
    /// Offset of its first byte in the stream.
    at: u64,
}

impl Changes {
    /// Returns the number of ranges.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the offset in the stream of the first byte of a range that is in one changed range.
    pub(super) fn covering(&self, range: Range<u64>) -> Option<u64> {
        match self.at(range.clone()) {
            (end, at) if end == range.end => at,
            _ => None,
        }
    }

    /// Returns the offset in the stream of the first byte of a range, if it is changed, and where bytes end that are
    /// changed in one range, or are not changed. At most, that is the end of the range.
    pub(super) fn at(&self, range: Range<u64>) -> (u64, Option<u64>) {
        if let Some((begin, change)) = self.0.range(..=range.start).next_back()
            && change.end > range.start
        {
            return (change.end.min(range.end), Some(change.at + (range.start - begin)));
        }
        let next = self.0.range(range.clone()).next();
        (next.map_or(range.end, |(&begin, _)| begin), None)
    }

    /// Records that the bytes of a range are at an offset of the stream.
    pub(super) fn set(&mut self, range: Range<u64>, at: u64) {
        self.clear(range.clone());
        if let Some((begin, last)) = self.0.range_mut(..range.start).next_back()
            && last.end == range.start
            && last.at + (last.end - begin) == at
        {
            last.end = range.end;
            return;
        }
        self.0.insert(range.start, Change { end: range.end, at });
    }

    /// Forgets what is in a range.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        if let Some((&begin, &change)) = self.0.range(..range.start).next_back()
            && change.end > range.start
        {
            self.0.insert(begin, Change { end: range.start, ..change });
            self.keep_rest(begin, change, range.end);
        }
        while let Some((&begin, &change)) = self.0.range(range.clone()).next() {
            self.0.remove(&begin);
            self.keep_rest(begin, change, range.end);
        }
    }

    /// Adds what a change has from `from` on.
    fn keep_rest(&mut self, begin: u64, change: Change, from: u64) {
        if change.end > from {
            let at = change.at + (from - begin);
            self.0.insert(from, Change { end: change.end, at });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: u64 = 40;

    proptest! {
        /// Each byte of a file is where it was written last.
        #[test]
        fn changes_are_a_map_of_bytes(
            steps in prop::collection::vec((0..LENGTH, 1..LENGTH, 0_u64..3), 1..30),
        ) {
            let (mut changes, mut model, mut written) = (Changes::default(), BTreeMap::new(), 0);
            for (begin, length, kind) in steps {
                let range = begin..LENGTH.min(begin + length);
                if kind == 0 {
                    changes.clear(range.clone());
                    range.for_each(|byte| { model.remove(&byte); });
                } else {
                    changes.set(range.clone(), written);
                    for byte in range.clone() {
                        model.insert(byte, written + (byte - range.start));
                    }
                    // Sometimes the next change does not continue this one.
                    written += range.end - range.start + (kind - 1);
                }
                let mut at = 0;
                while at < LENGTH {
                    let (end, offset) = changes.at(at..LENGTH);
                    prop_assert!(at < end && end <= LENGTH);
                    for byte in at..end {
                        let expected = offset.map(|offset| offset + (byte - at));
                        prop_assert_eq!(model.get(&byte).copied(), expected);
                    }
                    prop_assert!(offset.is_none() || changes.covering(at..end) == offset);
                    at = end;
                }
            }
        }
    }
}
