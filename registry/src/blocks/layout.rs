//! The locations of a stream's blocks: one run, or extents.
//!
//! A stream in one run, contiguous in position, index and generation, needs only its record. Any
//! other stream has an extent per run. The extent of a block is the one with the greatest first
//! index that is not above the block's, so seeking takes one lookup.

use ar7_engine::format::{
    BlockIndex, DATA_SIZE, Generation, Position, Run, StoredStream, StreamLayout,
};
use ar7_engine::{Check, Error as EngineError};

use crate::error::Result;
use crate::records::{Extent, ExtentKey, Extents, ReadRecords};
use crate::working::WorkingTrees;

/// A run of blocks of one stream: contiguous in position, index and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of the first block.
    pub(crate) first: BlockIndex,
    /// Positions of the blocks.
    pub(crate) run: Run,
    /// Generation of every block.
    pub(crate) generation: Generation,
}

impl Segment {
    /// Returns the index after the segment's last block.
    pub(crate) fn end(&self) -> u32 {
        self.first.get() + self.run.count()
    }

    /// Returns the position of a block. Its index must be in the segment.
    pub(crate) fn position(&self, index: u32) -> Position {
        Position::at(self.run.start().get() + (index - self.first.get()))
    }

    /// Returns the part of the segment from `index` on.
    pub(crate) fn from(&self, index: u32) -> Option<Segment> {
        let (_, rest) = self.run.split(index.checked_sub(self.first.get())?);
        Some(Segment { first: BlockIndex(index), run: rest?, generation: self.generation })
    }

    /// Returns the part of the segment before `index`.
    pub(crate) fn before(&self, index: u32) -> Option<Segment> {
        let (head, _) = self.run.split(index.checked_sub(self.first.get())?);
        Some(Segment { run: head?, ..*self })
    }

    fn joins(&self, next: &Segment) -> bool {
        self.end() == next.first.get()
            && self.run.end() == next.run.start().get()
            && self.generation == next.generation
    }

    pub(crate) fn joined(&self, next: &Segment) -> Option<Segment> {
        let run = Run::new(self.run.start(), self.run.count().checked_add(next.run.count())?)?;
        self.joins(next).then_some(Segment { run, ..*self })
    }

    fn key(&self, stored: &StoredStream) -> ExtentKey {
        ExtentKey { stream: stored.record.identity, first: self.first }
    }

    fn value(&self) -> Extent {
        Extent { run: self.run, generation: self.generation }
    }
}

/// Returns the segment that contains the block with this index. The index must be below the
/// stream's count.
pub(crate) fn locate(
    records: &impl ReadRecords,
    stored: &StoredStream,
    index: u32,
) -> Result<Segment> {
    let record = &stored.record;
    let found = match (stored.layout, record.begin) {
        (StreamLayout::OneRun(generation), Some(begin)) => Run::new(begin, record.count)
            .map(|run| Segment { first: BlockIndex(0), run, generation }),
        (StreamLayout::Extents, _) => {
            let key = ExtentKey { stream: record.identity, first: BlockIndex(index) };
            records.floor::<Extents>(&key)?.filter(|(key, _)| key.stream == record.identity).map(
                |(key, extent)| Segment {
                    first: key.first,
                    run: extent.run,
                    generation: extent.generation,
                },
            )
        }
        (StreamLayout::OneRun(_), None) => None,
    };
    match found {
        Some(segment) if index < segment.end() && segment.end() <= record.count => Ok(segment),
        _ => Err(EngineError::damaged(None, Check::Extents, index, "no extent").into()),
    }
}

/// Records `segment` as the location of its blocks, and replaces their previous locations. The
/// stream grows if the segment exceeds its end. The caller never leaves a gap.
pub(crate) fn assign(
    trees: &mut WorkingTrees,
    stored: &mut StoredStream,
    segment: Segment,
) -> Result<()> {
    let count = stored.record.count;
    assert!(segment.first.get() <= count, "a stream has no holes");
    let whole = whole_run(stored);
    let replaced = segment.first.get() == 0 && segment.end() >= count;
    if replaced {
        remove_from(trees, stored, 0)?;
        set_one_run(stored, segment);
        return Ok(());
    }
    if let Some(joined) = whole.and_then(|whole| whole.joined(&segment)) {
        set_one_run(stored, joined);
        return Ok(());
    }
    if let Some(whole) = whole {
        trees.put::<Extents>(&whole.key(stored), &whole.value())?;
        stored.layout = StreamLayout::Extents;
    }
    let mut joined = segment;
    if let Some(index) = segment.first.get().checked_sub(1) {
        let left = locate(trees, stored, index)?;
        if let Some(rest) = left.from(segment.end()) {
            trees.put::<Extents>(&rest.key(stored), &rest.value())?;
        }
        let kept = left.before(segment.first.get()).unwrap_or(left);
        joined = kept.joined(&segment).unwrap_or(segment);
        if joined == segment && kept != left {
            trees.put::<Extents>(&kept.key(stored), &kept.value())?;
        }
    }
    clear_covered(trees, stored, segment)?;
    if segment.end() < count {
        let right = locate(trees, stored, segment.end())?;
        if let Some(both) = joined.joined(&right) {
            trees.remove::<Extents>(&right.key(stored))?;
            joined = both;
        }
    }
    trees.put::<Extents>(&joined.key(stored), &joined.value())?;
    finish(trees, stored, count.max(segment.end()))
}

/// Truncates the stream to `count` blocks. Returns the runs that it no longer uses.
pub(crate) fn truncate(
    trees: &mut WorkingTrees,
    stored: &mut StoredStream,
    count: u32,
) -> Result<Vec<Run>> {
    let mut freed = Vec::new();
    while stored.record.count > count {
        let last = locate(trees, stored, stored.record.count - 1)?;
        let kept = last.before(count);
        freed.extend(last.from(count.max(last.first.get())).map(|gone| gone.run));
        match (stored.layout, kept) {
            (StreamLayout::OneRun(_), Some(kept)) => set_one_run(stored, kept),
            (StreamLayout::OneRun(_), None) => set_empty(stored),
            (StreamLayout::Extents, Some(kept)) => {
                trees.put::<Extents>(&kept.key(stored), &kept.value())?;
                finish(trees, stored, count)?;
            }
            (StreamLayout::Extents, None) => {
                trees.remove::<Extents>(&last.key(stored))?;
                stored.record.count = last.first.get();
                match stored.record.count {
                    0 => set_empty(stored),
                    left => finish(trees, stored, left)?,
                }
            }
        }
    }
    Ok(freed)
}

/// Removes the extents that begin in `segment`, except for the part of the last one that exceeds
/// it.
fn clear_covered(trees: &mut WorkingTrees, stored: &StoredStream, segment: Segment) -> Result<()> {
    let mut from = segment.first;
    loop {
        let key = ExtentKey { stream: stored.record.identity, first: from };
        let Some((key, extent)) = trees.ceiling::<Extents>(&key)? else { return Ok(()) };
        if key.stream != stored.record.identity || key.first.get() >= segment.end() {
            return Ok(());
        }
        let found = Segment { first: key.first, run: extent.run, generation: extent.generation };
        trees.remove::<Extents>(&key)?;
        if let Some(rest) = found.from(segment.end()) {
            trees.put::<Extents>(&rest.key(stored), &rest.value())?;
            return Ok(());
        }
        from = BlockIndex(found.end());
    }
}

/// Removes every extent that begins at `index` or later.
fn remove_from(trees: &mut WorkingTrees, stored: &StoredStream, index: u32) -> Result<()> {
    if stored.layout != StreamLayout::Extents {
        return Ok(());
    }
    let stream = stored.record.identity;
    loop {
        let key = ExtentKey { stream, first: BlockIndex(index) };
        match trees.ceiling::<Extents>(&key)? {
            Some((key, _)) if key.stream == stream => trees.remove::<Extents>(&key)?,
            _ => return Ok(()),
        };
    }
}

/// Sets the count and the first and last position. If the stream is one run again, removes its only
/// extent.
fn finish(trees: &mut WorkingTrees, stored: &mut StoredStream, count: u32) -> Result<()> {
    stored.record.count = count;
    let last = locate(trees, stored, count - 1)?;
    if last.first.get() == 0 {
        trees.remove::<Extents>(&last.key(stored))?;
        set_one_run(stored, last);
        return Ok(());
    }
    let first = locate(trees, stored, 0)?;
    stored.record.begin = Some(first.position(0));
    stored.record.end = Some(last.position(count - 1));
    Ok(())
}

fn whole_run(stored: &StoredStream) -> Option<Segment> {
    match stored.layout {
        StreamLayout::OneRun(generation) => {
            let run = Run::new(stored.record.begin?, stored.record.count)?;
            Some(Segment { first: BlockIndex(0), run, generation })
        }
        StreamLayout::Extents => None,
    }
}

fn set_one_run(stored: &mut StoredStream, segment: Segment) {
    stored.layout = StreamLayout::OneRun(segment.generation);
    stored.record.count = segment.run.count();
    stored.record.begin = Some(segment.run.start());
    stored.record.end = Some(segment.position(segment.run.count() - 1));
}

fn set_empty(stored: &mut StoredStream) {
    stored.layout = StreamLayout::OneRun(Generation::default());
    stored.record.count = 0;
    stored.record.begin = None;
    stored.record.end = None;
}

/// Records the blocks of a stream in extents, also if they are one run.
pub(crate) fn put_extents(trees: &mut WorkingTrees, stored: &mut StoredStream) -> Result<()> {
    if let Some(whole) = whole_run(stored) {
        trees.put::<Extents>(&whole.key(stored), &whole.value())?;
        stored.layout = StreamLayout::Extents;
    }
    Ok(())
}

/// Returns the number of blocks that `length` bytes touch, starting `within` bytes into a block.
pub(crate) fn blocks_for(within: usize, length: usize) -> u32 {
    u32::try_from((within + length).div_ceil(DATA_SIZE)).unwrap_or(u32::MAX)
}
