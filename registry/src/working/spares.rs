//! Memory for the dirty blocks of streams.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ar7_engine::format::{Data, OwnedData};

/// Maximum number of kept blocks: those of one flush and of one step of a long write. They take 20
/// MiB.
const SPARES_MAX: usize = 5200;

/// The memory of flushed blocks. A long write reuses it and allocates nothing. It is wiped when the
/// archive is closed or rolled back.
#[derive(Debug, Default)]
pub(crate) struct SpareBlocks(Mutex<Vec<OwnedData>>);

impl SpareBlocks {
    /// Returns a block that begins with as many of `bytes` as fit, followed by zeros, and the
    /// number of bytes that it took.
    pub(crate) fn beginning_with(&self, bytes: &[u8]) -> (OwnedData, usize) {
        let (mut data, is_zeroed) = match self.spares().pop() {
            Some(data) => (data, false),
            None => (OwnedData::zeroed(), true),
        };
        let taken = bytes.len().min(data.len());
        data[..taken].copy_from_slice(&bytes[..taken]);
        if !is_zeroed {
            data[taken..].fill(0);
        }
        (data, taken)
    }

    /// Returns a copy of a block.
    pub(crate) fn copy_of(&self, data: &Data) -> OwnedData {
        self.beginning_with(data).0
    }

    /// Returns a block of zeros.
    pub(crate) fn zeroed(&self) -> OwnedData {
        self.beginning_with(&[]).0
    }

    /// Wipes and releases all kept blocks.
    pub(crate) fn clear(&self) {
        self.spares().clear();
    }

    /// Takes back a block whose content is no longer needed.
    pub(crate) fn give(&self, data: OwnedData) {
        let mut spares = self.spares();
        if spares.len() < SPARES_MAX {
            spares.push(data);
        }
    }

    fn spares(&self) -> MutexGuard<'_, Vec<OwnedData>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::DATA_SIZE;

    use super::*;

    #[test]
    fn a_reused_block_has_no_old_content() {
        let spares = SpareBlocks::default();
        spares.give(spares.copy_of(&[7; DATA_SIZE]));
        let (data, taken) = spares.beginning_with(&[1, 2, 3]);
        assert_eq!((&data[..4], taken), (&[1, 2, 3, 0][..], 3));
        assert!(data[3..].iter().all(|&byte| byte == 0));
        assert!(spares.zeroed().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_limited_number_of_blocks_is_kept_and_used_again() {
        let spares = SpareBlocks::default();
        for given in 1..=SPARES_MAX + 2 {
            spares.give(OwnedData::zeroed());
            assert_eq!(spares.spares().len(), given.min(SPARES_MAX));
        }
        let before = spares.spares().len();
        spares.zeroed();
        assert_eq!(spares.spares().len(), before - 1);
        spares.clear();
        assert_eq!(spares.spares().len(), 0);
    }
}
