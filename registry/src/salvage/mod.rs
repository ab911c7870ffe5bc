//! Salvage: writes everything that still opens in a damaged archive to a new one.
//!
//! It trusts only keys and tags. A scan of every block finds index pages and blocks of streams. Trees are put together
//! from the pages (`rebuilt`), streams from their blocks (`versions`), and `restore` writes them to
//! the new archive. It cannot detect that
//! something is old: what an attacker put back opens like anything else.

mod content;
mod directories;
mod holes;
mod index;
mod packed;
mod packs;
mod rebuilt;
mod report;
mod restore;
#[cfg(test)]
pub(crate) mod tests;
mod versions;

use ar7_engine::format::ArchiveKind;
use ar7_engine::store::Wreck;

use self::content::Source;
use self::index::Index;
use self::rebuilt::{KnownRoot, Pages, Rebuilt};
pub use self::report::{Outcome, SalvageObserver, SalvageProgress, SalvageSummary, Salvaged};
use self::restore::Restoring;
use crate::archive::Archive;
use crate::error::Result;
use crate::records::TreeId;

/// Scans a damaged archive, and writes everything that opens to the archive that `create` makes. If this fails, that
/// archive is incomplete.
///
/// The index of what was found takes up to 48 bytes for each run of blocks of a stream, and about 200 for each index
/// page.
pub fn salvage(
    mut wreck: Wreck,
    create: impl FnOnce(ArchiveKind) -> Result<Archive>,
    observer: &mut dyn SalvageObserver,
) -> Result<SalvageSummary> {
    let mut index = Index::default();
    let total = wreck.blocks();
    let scanned = wreck.scan(&mut |block| index.add(&block), &mut |blocks| {
        observer.progress(SalvageProgress::Scanned { blocks, total }).is_continue()
    })?;
    index.sort();
    let mut summary = SalvageSummary {
        blocks: scanned.blocks,
        opened: scanned.opened,
        unreadable: scanned.unreadable,
        ..SalvageSummary::default()
    };
    let pages = Pages::new(&wreck);
    let known = wreck.newest_slot();
    let rebuild = |tree: TreeId| {
        let known = known.map(|(slot, is_certain)| KnownRoot {
            root: slot.roots[tree.index()],
            generation: slot.generation,
            is_certain,
        });
        Rebuilt::new(tree, &pages, &index.pages_of(tree), known)
    };
    let source = Source {
        wreck: &wreck,
        pages: &pages,
        index: &index,
        slot: known,
        streams: rebuild(TreeId::Streams),
        extents: rebuild(TreeId::Extents),
        names: rebuild(TreeId::Names),
        inodes: rebuild(TreeId::Inodes),
        frames: rebuild(TreeId::Frames),
    };
    summary.damaged_trees = source.damaged_trees();
    let archive = create(wreck.kind())?;
    let mut restoring = Restoring::new(&source, &archive, observer, summary);
    restoring.run()?;
    let summary = restoring.into_summary();
    archive.commit()?;
    archive.close()?;
    Ok(summary)
}
