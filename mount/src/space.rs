//! How much space there is.

use ar7_registry::records::Inode;
use ar7_registry::{Archive, Result};

pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Bytes of content in a block, rounded down.
pub(crate) const CONTENT_BYTES: u32 = 4000;

/// Numbers of blocks, in the archive and in the file system around it.
pub(crate) struct Space {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) inodes: u64,
}

/// Returns whether a packed file is too long to get a stream of its own, in which its holes take space.
pub(crate) fn is_too_long(archive: &Archive, inode: &Inode) -> Result<bool> {
    Ok(inode.slice.is_some() && inode.size / u64::from(CONTENT_BYTES) >= space(archive)?.free)
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
