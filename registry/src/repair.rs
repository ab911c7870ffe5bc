//! Repair: restores what exists twice from its good copy.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use ar7_engine::crypto::{KeyKind, Secret};
use ar7_engine::device::Device;
use ar7_engine::format::{DoubledRef, Run};
use ar7_engine::store::{Repaired, Repairer};

use crate::archive::Archive;
use crate::committed::parse_page;
use crate::error::Result;
use crate::records::TreeId;
use crate::tree::{Page, PageExpectation};
use crate::verify::BlockMap;

impl Archive {
    /// Writes good copies of the header, of meta slots, of blocks of the redo list and of index pages over
    /// bad ones, in their places. It changes nothing else. Waits up to `wait` for other processes.
    pub fn repair(path: &Path, secret: &Secret, wait: Duration) -> Result<Repaired> {
        repaired(Repairer::open(path, secret, wait)?)
    }

    /// Does the same with the archive on a device.
    pub fn repair_device(device: Box<dyn Device>, secret: &Secret) -> Result<Repaired> {
        repaired(Repairer::open_device(device, secret)?)
    }
}

fn repaired(mut repairer: Repairer) -> Result<Repaired> {
    repairer.heal_redo_list()?;
    let slot = repairer.store().current().slot.clone();
    let mut pages = Pages { repairer, visited: BlockMap::new(slot.block_count) };
    for tree in TreeId::ALL {
        let root = slot.roots[tree.index()];
        if let Some(block) = root.block {
            pages.heal(tree, block, root.depth.saturating_sub(1))?;
        }
    }
    Ok(pages.repairer.finish()?)
}

/// The repair of the index pages.
struct Pages {
    repairer: Repairer,
    visited: BlockMap,
}

impl Pages {
    /// Repairs a page and the pages below it. A page without a good copy counts as lost, and hides those below it.
    fn heal(&mut self, tree: TreeId, block: DoubledRef, level: u8) -> Result<()> {
        let Some(page) = self.healed(tree, block, level)? else { return Ok(()) };
        // A page of level 0 is a leaf, so the depth of the root bounds the recursion.
        let children = if page.is_branch() { page.count() } else { 0 };
        for cell in 0..children {
            self.heal(tree, page.child_block(cell), level - 1)?;
        }
        Ok(())
    }

    fn healed(&mut self, tree: TreeId, block: DoubledRef, level: u8) -> Result<Option<Page>> {
        let runs = block.copies().map(|copy| Run::single(copy.position));
        // Only a block of the archive that belongs to this page alone may be written.
        let is_owned = runs.map(|run| self.visited.mark(run).is_ok()) == [true; 2];
        if !is_owned {
            self.repairer.lose(block.position);
            return Ok(None);
        }
        let Some(found) = self.repairer.heal(KeyKind::Registry, block)? else { return Ok(None) };
        let expect = PageExpectation { tree: tree.number(), level };
        let page = parse_page(block.position, &found, expect).ok();
        if page.is_none() {
            self.repairer.lose(block.position);
        }
        Ok(page)
    }
}
