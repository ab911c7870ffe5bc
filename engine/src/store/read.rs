//! Reads blocks and runs of blocks, in parallel if there are many.

use std::cell::RefCell;

use rayon::prelude::*;
use zeroize::Zeroize;

use super::committed::Redirects;
use super::handle::Store;
use super::open_block::{BlockBuffer, generation_in, read_one, reopened};
use crate::crypto::{BATCH_BLOCKS, KeyKind, Opened};
use crate::error::{Error, Result};
use crate::format::{
    BLANK_BLOCKS, BLOCK_SIZE, Block, BlockHead, BlockRef, DATA_SIZE, Generation, META_SLOTS,
    OwnedData, Position, Run,
};
use crate::parallel::in_pool;

/// Blocks that one thread reads and opens at a time: 256 KiB stay in the cache of a core.
const CHUNK_BLOCKS: u32 = 64;
const CHUNK_BLOCKS_USIZE: usize = 64;

/// Blocks of a run from which on several threads share it. Starting them takes longer than opening a second chunk.
const SHARED_BLOCKS: u32 = 2 * CHUNK_BLOCKS;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Store {
    /// Reads and opens one version of one block.
    ///
    /// The specification's name is `load_block`.
    #[doc(alias = "load_block")]
    pub fn read_block(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        block: BlockRef,
    ) -> Result<Block> {
        let mut bytes = BlockBuffer::new();
        let opened = self.read_into(redirects, kind, block, &mut bytes)?;
        Ok(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
    }

    /// Reads and opens one version of one block in the caller's buffer.
    pub fn read_into<'a>(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        block: BlockRef,
        bytes: &'a mut [u8; BLOCK_SIZE],
    ) -> Result<Opened<'a>> {
        self.check_usable()?;
        self.open_one(redirects, kind, block, bytes)
    }

    fn open_one<'a>(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        block: BlockRef,
        bytes: &'a mut [u8; BLOCK_SIZE],
    ) -> Result<Opened<'a>> {
        read_one(&*self.device, &self.sealer, redirects, kind, block, bytes)
            .map_err(|error| self.explained(error))
    }

    /// Reads and opens a run of blocks of one generation, in parallel. It writes their data one after another to
    /// `data`, which must have the length of the run's data. It calls `check` with each block's index in the run and
    /// its head.
    pub fn read_run<C>(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        run: Run,
        generation: Generation,
        data: &mut [u8],
        check: C,
    ) -> Result<()>
    where
        C: Fn(u32, &BlockHead) -> Result<()> + Sync,
    {
        self.read_part_of_run(redirects, kind, (run, generation), 0, data, check)
    }

    /// Does the same from byte `within` of the first block's data, up to any byte of the last block's data.
    ///
    /// If `data` does not end in the last block, a bug of the caller.
    pub fn read_part_of_run<C>(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        (run, generation): (Run, Generation),
        within: usize,
        data: &mut [u8],
        check: C,
    ) -> Result<()>
    where
        C: Fn(u32, &BlockHead) -> Result<()> + Sync,
    {
        self.check_usable()?;
        let blocks = usize::try_from(run.count()).expect("a run in memory");
        assert_eq!(
            (within + data.len()).div_ceil(DATA_SIZE),
            blocks,
            "data for the blocks of the run"
        );
        if run.count() <= CHUNK_BLOCKS {
            return self.read_chunk(redirects, kind, (run, generation), within, data, &check);
        }
        let (first, rest) = data.split_at_mut(CHUNK_BLOCKS_USIZE * DATA_SIZE - within);
        let rest = rest.chunks_mut(CHUNK_BLOCKS_USIZE * DATA_SIZE).map(|data| (0, data));
        let mut parts = Vec::with_capacity(blocks.div_ceil(CHUNK_BLOCKS_USIZE));
        let (mut done, mut left) = (0, Some(run));
        for (within, data) in std::iter::once((within, first)).chain(rest) {
            let (part, after) = left.expect("blocks for the rest").split(CHUNK_BLOCKS);
            let part = part.expect("a run is not empty");
            parts.push((done, part, within, data));
            done += part.count();
            left = after;
        }
        let read_part = |(before, part, within, data): (u32, Run, usize, &mut [u8])| {
            let check = |place: u32, head: &BlockHead| check(before + place, head);
            self.read_chunk(redirects, kind, (part, generation), within, data, &check)
        };
        if run.count() < SHARED_BLOCKS {
            return parts.into_iter().try_for_each(read_part);
        }
        in_pool(|| parts.into_par_iter().try_for_each(read_part))
    }

    fn read_chunk(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        (run, generation): (Run, Generation),
        within: usize,
        data: &mut [u8],
        check: &dyn Fn(u32, &BlockHead) -> Result<()>,
    ) -> Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let needed = usize::try_from(run.count()).expect("a chunk is small") * BLOCK_SIZE;
            if scratch.len() < needed {
                scratch.resize(needed, 0);
            }
            let scratch = &mut scratch[..needed];
            let part = (&mut *scratch, within, data);
            let outcome = self.read_into_scratch(redirects, kind, (run, generation), part, check);
            // The thread, and with it this buffer, outlives the archive.
            scratch.zeroize();
            outcome
        })
    }

    fn read_into_scratch(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        (run, generation): (Run, Generation),
        (scratch, within, data): (&mut [u8], usize, &mut [u8]),
        check: &dyn Fn(u32, &BlockHead) -> Result<()>,
    ) -> Result<()> {
        // One bad sector fails the read of the whole chunk, so after a failure each block is read separately.
        let whole = !redirects.touch(run) && self.device.read(run.start(), scratch).is_ok();
        let mut blocks = (0..).zip(run.positions());
        let (mut skipped, mut rest) = (within, data);
        for bytes in scratch.chunks_mut(BATCH_BLOCKS * BLOCK_SIZE) {
            let mut opened = [false; BATCH_BLOCKS];
            let opened = &mut opened[..bytes.len() / BLOCK_SIZE];
            if whole {
                let positions = blocks.clone().map(|(_, position)| position).take(opened.len());
                self.sealer.open_batch(kind, positions, bytes, opened);
            }
            let (bytes, _) = bytes.as_chunks_mut::<BLOCK_SIZE>();
            // `blocks` comes last, because `zip` advances the first iterator before it finds that the second has
            // ended.
            for ((bytes, opened), (place, position)) in
                bytes.iter_mut().zip(opened).zip(blocks.by_ref())
            {
                let block = BlockRef { position, generation };
                let found = if *opened && generation_in(bytes) == generation {
                    reopened(position, bytes)?
                } else {
                    self.open_one(redirects, kind, block, bytes)?
                };
                check(place, &found.head)?;
                let found = &found.data[skipped..];
                let (part, after) = rest.split_at_mut(found.len().min(rest.len()));
                part.copy_from_slice(&found[..part.len()]);
                (skipped, rest) = (0, after);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Reads and opens one of the reserved blocks 1 to 6: the meta slots and the blank blocks. The header and its
    /// copy are not sealed.
    pub fn reserved_block(&self, position: Position) -> Result<Block> {
        self.check_usable()?;
        let kind = if META_SLOTS.contains(&position) {
            KeyKind::Meta
        } else if BLANK_BLOCKS.contains(&position) {
            KeyKind::Data
        } else {
            return Err(Error::OutOfBounds {
                what: "position of a reserved block",
                found: position.into(),
                allowed: "1 to 6".into(),
            });
        };
        let mut bytes = BlockBuffer::new();
        self.device.read(position, &mut bytes[..])?;
        let opened = self.sealer.open_in_place(kind, position, &mut bytes)?;
        Ok(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
    }
}
