//! Reading a stream of the open transaction without a handle.

use uuid::Uuid;

use super::State;
use crate::blocks::OpenStream;
use crate::error::{Error, Result};

impl State {
    /// Reads a stream as the open transaction has it, at most to its end. Returns the number of
    /// bytes read.
    pub(crate) fn read_uncommitted(
        &self,
        identity: Uuid,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize> {
        if let Some(open) = self.open.get(&identity) {
            return open.read_at(&self.trees, offset, bytes);
        }
        let stored = self.stored(identity)?.ok_or(Error::NoStream { stream: identity })?;
        OpenStream::new(stored).read_at(&self.trees, offset, bytes)
    }
}
