//! One look of a reader at the reserved blocks, while a writer may be changing them.

use super::readers::ReaderLocks;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, Position, RESERVED_BLOCKS, THIRD_COPIES};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time for which a reader looks again while a writer is active.
const PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// The reserved blocks and the length of the file, as one read found them. A block that a writer is writing may be
/// torn. As a device, it has the reserved blocks only. It reads the third copies when they are needed.
pub(super) struct Look<'a> {
    device: &'a dyn Device,
    blocks: Vec<Sealed>,
    third: [OnceLock<Sealed>; (THIRD_COPIES.end - THIRD_COPIES.start) as usize],
    length_bytes: u64,
}

type Sealed = Result<Box<[u8; BLOCK_SIZE]>>;

impl Look<'_> {
    /// Reads the reserved blocks from the file itself: a map may show a block in the middle of a write for longer.
    pub(super) fn take(device: &dyn Device) -> Result<Look<'_>> {
        let length_bytes = device.length_bytes()?;
        let reserved = usize::try_from(RESERVED_BLOCKS).expect("a small constant");
        let mut all = vec![0; reserved * BLOCK_SIZE];
        let blocks = match device.read_unmapped(Position::at(0), &mut all) {
            Ok(()) => {
                all.as_chunks::<BLOCK_SIZE>().0.iter().map(|one| Ok(Box::new(*one))).collect()
            }
            // One bad sector fails the whole read.
            Err(_) => (0..RESERVED_BLOCKS).map(|at| read_one(device, Position::at(at))).collect(),
        };
        Ok(Look { device, blocks, third: Default::default(), length_bytes })
    }

    /// Returns whether both looks found the same bytes.
    pub(super) fn is_same(&self, other: &Look<'_>) -> bool {
        self.length_bytes == other.length_bytes
            && self.readable().eq(other.readable())
            && (0..self.third.len()).all(|at| self.is_same_third(other, at))
    }

    fn is_same_third(&self, other: &Look<'_>, at: usize) -> bool {
        let is_read = |look: &Look<'_>| look.third[at].get().is_some();
        let is_needed = is_read(self) || is_read(other);
        !is_needed || self.third(at).as_deref().ok() == other.third(at).as_deref().ok()
    }

    /// Returns a third copy, and reads it the first time.
    fn third(&self, at: usize) -> &Sealed {
        self.third[at].get_or_init(|| {
            let offset = u32::try_from(at).expect("an index of a small array");
            read_one(self.device, Position::at(THIRD_COPIES.start + offset))
        })
    }

    /// Returns each block, or `None` if it cannot be read.
    fn readable(&self) -> impl Iterator<Item = Option<&[u8; BLOCK_SIZE]>> {
        self.blocks.iter().map(|block| block.as_deref().ok())
    }
}

fn read_one(device: &dyn Device, position: Position) -> Result<Box<[u8; BLOCK_SIZE]>> {
    let mut bytes = Box::new([0; BLOCK_SIZE]);
    device.read_unmapped(position, &mut bytes[..])?;
    Ok(bytes)
}

impl Device for Look<'_> {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        let third = start.get().checked_sub(THIRD_COPIES.start);
        if let Some(at) = third.and_then(|at| usize::try_from(at).ok())
            && at < self.third.len()
        {
            bytes.copy_from_slice(&self.third(at).as_ref().map_err(Clone::clone)?[..]);
            return Ok(());
        }
        let first = usize::try_from(start.get()).expect("an index of a small array");
        for (block, bytes) in self.blocks.iter().skip(first).zip(bytes.chunks_mut(BLOCK_SIZE)) {
            bytes.copy_from_slice(&block.as_ref().map_err(Clone::clone)?[..]);
        }
        Ok(())
    }

    fn write(&self, _start: Position, _bytes: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn sync(&self) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn grow(&self, _blocks: u32) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn shrink(&self, _blocks: u32) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn length_bytes(&self) -> Result<u64> {
        Ok(self.length_bytes)
    }
}

/// Looks until `examine` accepts what a look found. An error counts only if two looks find the same bytes and no
/// writer was active before, between and after them: a read next to a write can be torn, and a writer that is stopped
/// in the middle of a write leaves the same torn block for every look.
///
/// What was found but is not whole counts under the same conditions: a meta slot that a writer is writing looks like
/// one that a crash or corruption damaged.
///
/// While a writer is active, it looks again for up to a second. Then it accepts what was found, or fails with
/// [`Error::Busy`]. Returns the look as well.
pub(super) fn look_steadily<'a, T>(
    device: &'a dyn Device,
    readers: &ReaderLocks,
    mut examine: impl FnMut(&Look<'_>) -> Result<T>,
    is_whole: impl Fn(&T) -> bool,
) -> Result<(T, Look<'a>)> {
    // Begins after the first look: deriving the key from a passphrase may take longer than this.
    let mut begun = None;
    let mut is_idle = !readers.is_written()?;
    let mut before = Look::take(device)?;
    loop {
        let outcome = examine(&before);
        if outcome.as_ref().is_ok_and(&is_whole) || crate::fault!(TrustOneLook) {
            return outcome.map(|found| (found, before));
        }
        let was_idle = is_idle;
        is_idle = !readers.is_written()?;
        let after = Look::take(device)?;
        let still_idle = !readers.is_written()?;
        let is_of_header = outcome.as_ref().is_err_and(is_of_whole_header);
        let is_unwritten = (was_idle && is_idle && still_idle) || crate::fault!(JudgeWhileWritten);
        let is_final = is_of_header || is_unwritten;
        if after.is_same(&before) && is_final {
            return outcome.map(|found| (found, before));
        }
        let waited = begun.get_or_insert_with(Instant::now).elapsed();
        if waited >= PATIENCE {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            let busy = |error: Error| Error::Busy { waited_ms, cause: error.into() };
            return outcome.map(|found| (found, before)).map_err(busy);
        }
        before = after;
        is_idle = still_idle;
        sleep(PAUSE);
    }
}

/// Returns whether an error is a statement about a header whose checksum is right, which no torn read has.
fn is_of_whole_header(error: &Error) -> bool {
    matches!(error, Error::WrongKey { .. } | Error::NewerFormat { .. })
}
