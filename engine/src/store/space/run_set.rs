//! A set of positions, stored as runs that neither touch nor overlap.
//!
//! No crate is used. `rangemap` does not count the positions, which callers need at every allocation: a wrapper that
//! counts must find what each insertion and removal overlaps, and that is most of the code here. The rest is
//! `partition`, and [`Run`] with its checked bounds.

use std::collections::BTreeMap;

use crate::format::{Position, Run};

/// A set of positions. Touching runs are merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSet {
    /// Start of each run, and its end (exclusive).
    runs: BTreeMap<u32, u32>,
    /// Number of positions in the set.
    blocks: u64,
}

impl RunSet {
    /// Returns the number of positions in the set.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the number of runs.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a run, which may overlap the set.
    pub fn insert(&mut self, run: Run) {
        let (mut start, mut end) = (run.start().get(), run.end());
        if let Some((&before, &before_end)) = self.runs.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
            self.take(before);
        }
        while let Some((&after, &after_end)) = self.runs.range(start..=end).next() {
            end = end.max(after_end);
            self.take(after);
        }
        self.put(start, end);
    }

    /// Removes every position of a run.
    pub fn remove(&mut self, run: Run) {
        let (start, end) = (run.start().get(), run.end());
        if let Some((&before, &before_end)) = self.runs.range(..start).next_back()
            && before_end > start
        {
            self.take(before);
            self.put(before, start);
            if before_end > end {
                self.put(end, before_end);
                return;
            }
        }
        while let Some((&within, &within_end)) = self.runs.range(start..end).next() {
            self.take(within);
            if within_end > end {
                self.put(end, within_end);
            }
        }
    }

    /// Returns whether `position` is in the set.
    pub fn contains(&self, position: Position) -> bool {
        self.runs.range(..=position.get()).next_back().is_some_and(|(_, &end)| end > position.get())
    }

    /// Returns whether any position of `run` is in the set.
    pub fn intersects(&self, run: Run) -> bool {
        self.runs.range(..run.end()).next_back().is_some_and(|(_, &end)| end > run.start().get())
    }

    /// Returns the runs in order of position.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Run> + '_ {
        self.runs.iter().map(|(&start, &end)| run_between(start, end))
    }

    /// Returns the parts of `run` that are in the set, and the parts that are not.
    pub fn partition(&self, run: Run) -> (Vec<Run>, Vec<Run>) {
        let (mut within, mut outside) = (Vec::new(), Vec::new());
        let mut at = run.start().get();
        let first = self.runs.range(..=at).next_back().map_or(at, |(&start, _)| start);
        for (&start, &end) in self.runs.range(first..run.end()) {
            let (start, end) = (start.max(at), end.min(run.end()));
            if start >= end {
                continue;
            }
            if start > at {
                outside.push(run_between(at, start));
            }
            within.push(run_between(start, end));
            at = end;
        }
        if at < run.end() {
            outside.push(run_between(at, run.end()));
        }
        (within, outside)
    }

    /// Removes a run of at most `most` blocks from the set and returns it: the start of the first run of at least
    /// `most` blocks, or else the longest run.
    pub fn take_run(&mut self, most: u32) -> Option<Run> {
        let fitting = self.iter().find(|run| run.count() >= most);
        let run = fitting.or_else(|| self.iter().max_by_key(|run| run.count()))?;
        let (head, _) = run.split(most);
        let head = head?;
        self.remove(head);
        Some(head)
    }

    /// Removes the first blocks of the first run, at most `most`, from the set and returns them.
    pub fn take_first(&mut self, most: u32) -> Option<Run> {
        let (head, _) = self.iter().next()?.split(most);
        self.remove(head?);
        head
    }

    /// Removes the last blocks that lie together, at most `most`, from the set and returns them.
    pub fn take_last(&mut self, most: u32) -> Option<Run> {
        let (&start, &end) = self.runs.last_key_value()?;
        let run = run_between(end - most.clamp(1, end - start), end);
        self.remove(run);
        Some(run)
    }

    /// Removes the last run from the set and returns it, if it ends at `end`.
    pub fn take_ending_at(&mut self, end: u32) -> Option<Run> {
        let (&start, &last) = self.runs.iter().next_back()?;
        if last != end {
            return None;
        }
        self.take(start);
        Some(run_between(start, last))
    }

    fn take(&mut self, start: u32) {
        if let Some(end) = self.runs.remove(&start) {
            self.blocks -= u64::from(end - start);
        }
    }

    fn put(&mut self, start: u32, end: u32) {
        self.runs.insert(start, end);
        self.blocks += u64::from(end - start);
    }
}

impl FromIterator<Run> for RunSet {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> RunSet {
        let mut set = RunSet::default();
        set.extend(runs);
        set
    }
}

impl Extend<Run> for RunSet {
    fn extend<I: IntoIterator<Item = Run>>(&mut self, runs: I) {
        for run in runs {
            self.insert(run);
        }
    }
}

/// Returns the run from `start` to `end`. Both come from runs, so they are in bounds, and `end` is above `start`.
fn run_between(start: u32, end: u32) -> Run {
    Run::new(Position::at(start), end - start).expect("a part of a run is a run")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn run(start: u32, count: u32) -> Run {
        Run::new(Position::at(start), count).unwrap()
    }

    fn positions(set: &RunSet) -> BTreeSet<u32> {
        set.iter().flat_map(Run::positions).map(Position::get).collect()
    }

    proptest! {
        /// After any inserts and removals, the set equals a plain set of numbers, its runs do not touch, and
        /// `partition` splits a run exactly.
        #[test]
        fn run_set_equals_a_plain_set(
            operations in prop::collection::vec((any::<bool>(), 0_u32..200, 1_u32..40), 1..60),
            probe in (0_u32..200, 1_u32..60),
        ) {
            let mut set = RunSet::default();
            let mut model = BTreeSet::new();
            for (insert, start, count) in operations {
                if insert {
                    set.insert(run(start, count));
                    model.extend(start..start + count);
                } else {
                    set.remove(run(start, count));
                    model.retain(|p| !(start..start + count).contains(p));
                }
                prop_assert_eq!(positions(&set), model.clone());
                prop_assert_eq!(set.blocks(), model.len() as u64);
                let runs: Vec<Run> = set.iter().collect();
                prop_assert_eq!((set.len(), set.is_empty()), (runs.len(), runs.is_empty()));
                let contained = (0..250).filter(|&at| set.contains(Position::at(at)));
                prop_assert!(contained.eq(model.iter().copied()));
                prop_assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].start().get()));
            }
            let probe = run(probe.0, probe.1);
            let (within, outside) = set.partition(probe);
            prop_assert!(within.iter().all(|r| r.positions().all(|p| model.contains(&p.get()))));
            prop_assert!(outside.iter().all(|r| r.positions().all(|p| !model.contains(&p.get()))));
            let total: u32 = within.iter().chain(&outside).map(|r| r.count()).sum();
            prop_assert_eq!(total, probe.count());
            prop_assert_eq!(set.intersects(probe), !within.is_empty());
        }
    }

    #[test]
    fn take_run_prefers_the_first_run_that_is_long_enough() {
        let mut set: RunSet = [run(10, 2), run(20, 8), run(40, 30)].into_iter().collect();
        assert_eq!(set.take_run(5), Some(run(20, 5)));
        assert_eq!(set.take_run(100), Some(run(40, 30)));
        assert_eq!(set.take_ending_at(28), Some(run(25, 3)));
        assert_eq!(set.take_ending_at(28), None);
        assert_eq!(set.take_run(1), Some(run(10, 1)));
    }

    #[test]
    fn blocks_are_taken_from_the_front_and_from_the_end() {
        let mut set: RunSet = [run(10, 2), run(20, 8), run(40, 30)].into_iter().collect();
        assert_eq!(set.take_first(5), Some(run(10, 2)));
        assert_eq!(set.take_first(5), Some(run(20, 5)));
        assert_eq!(set.take_last(4), Some(run(66, 4)));
        assert_eq!(set.take_last(100), Some(run(40, 26)));
        assert_eq!(set.take_last(2), Some(run(26, 2)));
        assert_eq!(set.take_last(100), Some(run(25, 1)));
        assert_eq!(set.take_last(100), None);
        assert_eq!((set.take_first(1), set.blocks()), (None, 0));
    }
}
