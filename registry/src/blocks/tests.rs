//! The layout of a stream agrees with a list of its blocks, and takes as few records as possible.

use ar7_engine::format::{
    BlockHead, BlockIndex, Generation, Position, Run, StoredStream, StreamLayout,
};
use ar7_engine::{Check, Error as EngineError};
use proptest::prelude::*;
use uuid::Uuid;

use super::layout::truncate;
use super::*;
use crate::error::Error;
use crate::records::{Extent, ExtentKey, Extents, ReadRecords};
use crate::working::WorkingTrees;

const STREAM: Uuid = Uuid::from_u128(100);

/// A change of a stream's layout. The test reduces each number to the valid range.
#[derive(Debug, Clone)]
enum Change {
    Assign { first: u32, count: u32, start: u32, step: u32 },
    Truncate { count: u32 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Block `index` is mostly at 100 + index or 200 + index, so that adjacent segments often join.
    let start = prop_oneof![4 => Just(100_u32), 3 => Just(200_u32), 1 => 300_u32..310];
    let change = prop_oneof![
        5 => (0_u32..30, 1_u32..6, start, 0_u32..2)
            .prop_map(|(first, count, start, step)| Change::Assign { first, count, start, step }),
        1 => (0_u32..30).prop_map(|count| Change::Truncate { count }),
    ];
    prop::collection::vec(change, 1..40)
}

/// Position of each block, and the step of its generation.
type Model = Vec<(u32, u32)>;

fn generation(step: u32) -> Generation {
    Generation { session: 1, step, salt: 0 }
}

fn segment(first: u32, start: u32, count: u32, step: u32) -> Segment {
    let run = Run::new(Position::at(start), count).unwrap();
    Segment { first: BlockIndex(first), run, generation: generation(step) }
}

fn extents(trees: &WorkingTrees, stream: Uuid) -> Vec<(u32, Extent)> {
    let mut found = Vec::new();
    let mut first = BlockIndex(0);
    while let Some((key, extent)) = trees.ceiling::<Extents>(&ExtentKey { stream, first }).unwrap()
        && key.stream == stream
    {
        found.push((key.first.get(), extent));
        first = BlockIndex(key.first.get() + 1);
    }
    found
}

/// Returns the number of runs that a list of blocks forms.
fn runs_of(model: &Model) -> usize {
    let follows = |a: &(u32, u32), b: &(u32, u32)| b.0 == a.0 + 1 && b.1 == a.1;
    model.chunk_by(follows).count()
}

fn check(trees: &WorkingTrees, stored: &StoredStream, model: &Model) {
    let record = &stored.record;
    assert_eq!(record.count as usize, model.len());
    let position = |block: Option<&(u32, u32)>| block.map(|&(at, _)| Position::at(at));
    assert_eq!((record.begin, record.end), (position(model.first()), position(model.last())));
    for (index, &(at, step)) in (0..).zip(model) {
        let found = locate(trees, stored, index).unwrap();
        assert_eq!((found.position(index).get(), found.generation), (at, generation(step)));
    }
    assert!(locate(trees, stored, record.count).is_err());
    let runs = runs_of(model);
    assert_eq!(extents(trees, STREAM).len(), if runs > 1 { runs } else { 0 }, "{model:?}");
    assert_eq!(stored.layout == StreamLayout::Extents, runs > 1);
}

proptest! {
    #[test]
    fn a_layout_agrees_with_a_list_of_blocks(changes in changes()) {
        let mut trees = WorkingTrees::of_new_archive();
        // Extents of the streams before and after must not change.
        let others = [Uuid::from_u128(99), Uuid::from_u128(101)];
        let other = Extent { run: Run::single(Position::at(500)), generation: generation(9) };
        for stream in others {
            for first in [BlockIndex(0), BlockIndex(3)] {
                trees.put::<Extents>(&ExtentKey { stream, first }, &other).unwrap();
            }
        }
        let (mut stored, mut model) = (StoredStream::empty(STREAM), Model::new());
        for change in changes {
            match change {
                Change::Assign { first, count, start, step } => {
                    let first = first % (stored.record.count + 1);
                    assign(&mut trees, &mut stored, segment(first, start + first, count, step))
                        .unwrap();
                    let (from, end) = (first as usize, (first + count) as usize);
                    model.resize(model.len().max(end), (0, 0));
                    for (block, at) in model[from..end].iter_mut().zip(start + first..) {
                        *block = (at, step);
                    }
                }
                Change::Truncate { count } => {
                    let freed = truncate(&mut trees, &mut stored, count).unwrap();
                    let mut freed: Vec<u32> =
                        freed.iter().flat_map(|run| run.positions()).map(Position::get).collect();
                    let gone = model.split_off(model.len().min(count as usize));
                    let mut gone: Vec<u32> = gone.into_iter().map(|(at, _)| at).collect();
                    freed.sort_unstable();
                    gone.sort_unstable();
                    prop_assert_eq!(freed, gone);
                }
            }
            check(&trees, &stored, &model);
        }
        for stream in others {
            prop_assert_eq!(extents(&trees, stream), [(0, other), (3, other)]);
        }
    }
}

#[test]
fn an_extent_beyond_the_streams_blocks_is_damage() {
    let mut trees = WorkingTrees::of_new_archive();
    let mut stored = StoredStream::empty(STREAM);
    assign(&mut trees, &mut stored, segment(0, 100, 2, 0)).unwrap();
    assign(&mut trees, &mut stored, segment(2, 200, 2, 0)).unwrap();
    stored.record.count = 3;
    assert!(locate(&trees, &stored, 1).is_ok());
    match locate(&trees, &stored, 2) {
        Err(Error::Engine(EngineError::Damaged(fault))) => assert_eq!(fault.check, Check::Extents),
        other => panic!("{other:?}"),
    }
}

/// Returns the head of the block at position 102 of a stream at positions 100 to 104.
fn head() -> BlockHead {
    BlockHead {
        previous: Some(Position::at(101)),
        next: Some(Position::at(103)),
        index: BlockIndex(2),
        stream: STREAM,
    }
}

/// Checks `head` as the head at offset `place` in the segment of blocks 1 to 3, with the given
/// neighbours outside of it.
fn checked(head: BlockHead, place: u32, before: Neighbour, after: Neighbour) -> Option<Check> {
    let segment = segment(1, 101, 3, 0);
    let expected = Expected { stream: STREAM, segment, before, after };
    match check_head(&expected, place, &head) {
        Ok(()) => None,
        Err(EngineError::Tampered(fault)) => Some(fault.check),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_head_with_a_wrong_stream_index_or_link_is_tampering() {
    use Neighbour::{At, None as End, Unknown};
    let elsewhere = Some(Position::at(999));
    let middle = |head| checked(head, 1, End, End);
    assert_eq!(middle(head()), None);
    assert_eq!(middle(BlockHead { stream: Uuid::nil(), ..head() }), Some(Check::Stream));
    assert_eq!(middle(BlockHead { index: BlockIndex(1), ..head() }), Some(Check::Index));
    for wrong in [None, elsewhere] {
        assert_eq!(middle(BlockHead { previous: wrong, ..head() }), Some(Check::PreviousLink));
        assert_eq!(middle(BlockHead { next: wrong, ..head() }), Some(Check::NextLink));
    }
    // The first and the last block of the segment.
    let next = Some(Position::at(102));
    let first = |previous| BlockHead { previous, next, index: BlockIndex(1), ..head() };
    let previous = Some(Position::at(102));
    let last = |next| BlockHead { previous, next, index: BlockIndex(3), ..head() };
    for (expected, right, wrong) in [
        (End, None, elsewhere),
        (At(Position::at(999)), elsewhere, None),
        (At(Position::at(999)), elsewhere, Some(Position::at(998))),
    ] {
        assert_eq!(checked(first(right), 0, expected, Unknown), None);
        assert_eq!(checked(first(wrong), 0, expected, Unknown), Some(Check::PreviousLink));
        assert_eq!(checked(last(right), 2, Unknown, expected), None);
        assert_eq!(checked(last(wrong), 2, Unknown, expected), Some(Check::NextLink));
    }
    for link in [None, elsewhere] {
        assert_eq!(checked(first(link), 0, Unknown, End), None);
        assert_eq!(checked(last(link), 2, End, Unknown), None);
    }
}
