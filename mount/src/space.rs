//! How much space there is.

use ar7_registry::{Archive, Result};

pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Numbers of blocks, in the archive and in the file system around it.
pub(crate) struct Space {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) inodes: u64,
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
