//! How much space there is.

use ar7_registry::records::Inode;
use ar7_registry::{Archive, Result};
use fuser::Errno;

use crate::errno::errno;

pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Bytes of content in a block, rounded down.
pub(crate) const CONTENT_BYTES: u32 = 4000;

/// Numbers of blocks, in the archive and in the file system around it.
pub(crate) struct Space {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) inodes: u64,
}

/// Blocks that one change takes at most, apart from content: both copies of a few pages of each tree.
pub(crate) const BLOCKS_PER_CHANGE: usize = 64;

/// Returns whether a packed file is too long to get a stream of its own, in which its holes take space.
pub(crate) fn is_too_long(archive: &Archive, inode: &Inode) -> Result<bool> {
    Ok(inode.slice.is_some() && !has_room(archive, inode.size)?)
}

/// Returns whether a commit has room for a change that adds this many bytes of content.
pub(crate) fn has_room(archive: &Archive, bytes: u64) -> Result<bool> {
    let blocks = bytes.div_ceil(CONTENT_BYTES.into());
    // The archive would grow to check it.
    if blocks >= space(archive)?.free {
        return Ok(false);
    }
    let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
    match archive.check_room(blocks.saturating_add(BLOCKS_PER_CHANGE)) {
        Ok(()) => Ok(true),
        Err(error) if errno(&error) == Errno::ENOSPC => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns how much space there is, as of the last commit.
pub(crate) fn space(archive: &Archive) -> Result<Space> {
    let statistics = archive.statistics()?;
    let around = archive.store().path().and_then(|path| rustix::fs::statvfs(path).ok());
    let outside =
        around.map_or(0, |around| around.f_bavail.saturating_mul(around.f_frsize) / BLOCK_BYTES);
    let inside = statistics.file_bytes / BLOCK_BYTES;
    // The file may have grown ahead of its blocks.
    let ahead = inside.saturating_sub(statistics.blocks.into());
    let free = statistics.free_blocks.saturating_add(outside).saturating_add(ahead);
    let blocks = u64::from(statistics.blocks).saturating_add(outside).saturating_add(ahead);
    Ok(Space { blocks, free, inodes: statistics.inodes })
}
