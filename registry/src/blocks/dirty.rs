//! The dirty blocks of a stream.

use std::ops::Index;

use ar7_engine::format::OwnedData;

use crate::working::SpareBlocks;

/// The dirty blocks of a stream, in order of index. Most blocks are appended, which needs no
/// search.
#[derive(Debug, Default)]
pub(crate) struct DirtyBlocks(Vec<(u32, OwnedData)>);

impl DirtyBlocks {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, index: u32) -> Option<&OwnedData> {
        self.find(index).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut OwnedData> {
        self.find(index).ok().map(|at| &mut self.0[at].1)
    }

    /// Inserts a block. If it replaces one, the memory of the old block goes to the spares.
    pub(crate) fn insert(&mut self, index: u32, data: OwnedData, spares: &SpareBlocks) {
        match self.find(index) {
            Ok(at) => spares.give(std::mem::replace(&mut self.0[at].1, data)),
            Err(at) => self.0.insert(at, (index, data)),
        }
    }

    /// Returns the lowest index that is not below `index`.
    pub(crate) fn next_from(&self, index: u32) -> Option<u32> {
        let at = self.find(index).unwrap_or_else(|at| at);
        self.0.get(at).map(|&(index, _)| index)
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().map(|&(index, _)| index)
    }

    /// Drops the blocks from `index` on.
    pub(crate) fn truncate(&mut self, index: u32, spares: &SpareBlocks) {
        let at = self.find(index).unwrap_or_else(|at| at);
        self.0.drain(at..).for_each(|(_, data)| spares.give(data));
    }

    /// Takes out every block in order of index, except the block with index `kept`, which can only
    /// be the last one.
    pub(crate) fn take_except(
        &mut self,
        kept: Option<u32>,
    ) -> impl Iterator<Item = (u32, OwnedData)> + '_ {
        let is_kept = |&(last, _): &(u32, OwnedData)| Some(last) == kept;
        let end = self.0.len() - usize::from(self.0.last().is_some_and(is_kept));
        self.0.drain(..end)
    }

    /// Returns the place of a block, or the place where it belongs.
    fn find(&self, index: u32) -> Result<usize, usize> {
        match self.0.last() {
            Some(&(last, _)) if last < index => Err(self.0.len()),
            _ => self.0.binary_search_by_key(&index, |&(index, _)| index),
        }
    }
}

impl Index<u32> for DirtyBlocks {
    type Output = OwnedData;

    fn index(&self, index: u32) -> &OwnedData {
        self.get(index).expect("the block is in memory")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ar7_engine::format::DATA_SIZE;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32, u8),
        Truncate(u32),
        TakeExcept(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..40_u32, any::<u8>()).prop_map(|(index, byte)| Step::Insert(index, byte)),
            1 => (0..40_u32).prop_map(Step::Truncate),
            1 => any::<bool>().prop_map(Step::TakeExcept),
        ]
    }

    proptest! {
        #[test]
        fn dirty_blocks_agree_with_an_ordered_map(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut blocks, spares) = (DirtyBlocks::default(), SpareBlocks::default());
            let mut map = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(index, byte) => {
                        let (data, taken) = spares.beginning_with(&[byte; 10]);
                        prop_assert_eq!(taken, 10);
                        blocks.insert(index, data, &spares);
                        map.insert(index, byte);
                    }
                    Step::Truncate(index) => {
                        blocks.truncate(index, &spares);
                        map.split_off(&index);
                    }
                    Step::TakeExcept(keeps_last) => {
                        let kept = map.keys().next_back().copied().filter(|_| keeps_last);
                        let taken: Vec<(u32, u8)> =
                            blocks.take_except(kept).map(|(index, data)| (index, data[0])).collect();
                        let expected: Vec<(u32, u8)> = map
                            .extract_if(.., |&index, _| Some(index) != kept)
                            .collect();
                        prop_assert_eq!(taken, expected);
                    }
                }
                prop_assert!(blocks.indices().eq(map.keys().copied()));
                prop_assert_eq!(blocks.len(), map.len());
                for index in 0..41 {
                    let next = map.range(index..).next().map(|(&next, _)| next);
                    prop_assert_eq!(blocks.next_from(index), next);
                    let mut expected = [0; DATA_SIZE];
                    expected[..10].fill(map.get(&index).copied().unwrap_or_default());
                    let found = blocks.get_mut(index).map(|data| data[..] == expected);
                    prop_assert_eq!(found, map.get(&index).map(|_| true));
                }
            }
        }
    }
}
