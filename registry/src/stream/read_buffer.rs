//! A read buffer for file objects, so that small sequential reads open each block once.

use ar7_engine::format::{DATA_SIZE, DATA_SIZE_U64};
use zeroize::Zeroizing;

use super::content::Content;
use crate::error::Result;

/// Consecutive bytes of a stream, from the start of a block.
pub(super) struct ReadBuffer {
    /// Replaced, never resized: growing would leave a copy of the content in freed memory.
    memory: Zeroizing<Vec<u8>>,
    /// Offset of the first byte in the stream.
    start: u64,
    length: usize,
    /// Whether the last byte is the last of the stream.
    reaches_end: bool,
    /// [`Content::version`] before the bytes were read.
    version: Option<u64>,
    /// The number of blocks that the next sequential read opens.
    window_blocks: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> ReadBuffer {
        ReadBuffer {
            memory: Zeroizing::new(Vec::new()),
            start: 0,
            length: 0,
            reaches_end: false,
            version: None,
            window_blocks: 1,
        }
    }

    /// Discards the bytes, because the stream changes.
    pub(super) fn clear(&mut self) {
        self.version = None;
    }

    /// Returns the bytes from `offset`: at least `wanted`, or all up to the end of the stream. All come from one commit.
    pub(super) fn read(
        &mut self,
        stream: &impl Content,
        offset: u64,
        wanted: usize,
    ) -> Result<&[u8]> {
        let version = stream.version()?;
        if self.version != Some(version) || !self.covers(offset, wanted) {
            self.fill(stream, offset, wanted)?;
            self.version = Some(version);
        }
        Ok(self.from(offset))
    }

    fn from(&self, offset: u64) -> &[u8] {
        let skipped = offset.checked_sub(self.start).and_then(|bytes| usize::try_from(bytes).ok());
        skipped.and_then(|skipped| self.memory[..self.length].get(skipped..)).unwrap_or_default()
    }

    fn end(&self) -> u64 {
        self.start + self.length as u64
    }

    fn covers(&self, offset: u64, wanted: usize) -> bool {
        let is_within = (self.start..=self.end()).contains(&offset);
        is_within && (self.reaches_end || self.from(offset).len() >= wanted)
    }

    /// Opens blocks from the one that contains `offset`. A sequential read opens twice as many as the one before, up to
    /// a limit; any other read opens only the blocks that it needs.
    fn fill(&mut self, stream: &impl Content, offset: u64, wanted: usize) -> Result<()> {
        let continues = self.version.is_some() && (self.start..=self.end()).contains(&offset);
        let within = offset % DATA_SIZE_U64;
        let needed =
            usize::try_from(within).map_or(usize::MAX, |within| within.saturating_add(wanted));
        let least = needed.div_ceil(DATA_SIZE).max(1);
        let blocks = if continues { least.max(self.window_blocks) } else { least };
        self.window_blocks = blocks.saturating_mul(2).min(stream.window_blocks());
        self.version = None;
        self.start = offset - within;
        match self.read_blocks(stream, blocks) {
            // A bad block that was not asked for is no reason to refuse the others.
            Err(_) if blocks > least => {
                self.window_blocks = least;
                self.read_blocks(stream, least)
            }
            outcome => outcome,
        }
    }

    fn read_blocks(&mut self, stream: &impl Content, blocks: usize) -> Result<()> {
        let bytes = blocks.saturating_mul(DATA_SIZE);
        if self.memory.len() < bytes {
            self.memory = Zeroizing::new(vec![0; bytes]);
        }
        self.length = stream.read_at(self.start, &mut self.memory[..bytes])?;
        self.reaches_end = self.length < bytes;
        Ok(())
    }
}

impl std::fmt::Debug for ReadBuffer {
    /// Leaves out the bytes, which are decrypted content.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (start, length) = (self.start, self.length);
        formatter
            .debug_struct("ReadBuffer")
            .field("start", &start)
            .field("length", &length)
            .finish_non_exhaustive()
    }
}
