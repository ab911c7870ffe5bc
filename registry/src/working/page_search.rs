//! Where the next commit searches for pages to move.

use super::trees::SearchStarts;

/// Maximum number of branches that one commit reads in each tree to find pages to move for each reason.
const SEARCHED_BRANCHES: u32 = 4096;

/// The search for pages to move. A commit reads a limited number of branches, and the next one continues behind them, so
/// that every page of a large tree is found.
pub(crate) struct PageSearch {
    pub(crate) branches_max: u32,
    pub(super) damaged: SearchStarts,
    pub(super) near: SearchStarts,
    /// Whether the next commit searches every page for damaged ones.
    pub(super) is_whole: bool,
}

impl Default for PageSearch {
    fn default() -> PageSearch {
        let (damaged, near) = (SearchStarts::default(), SearchStarts::default());
        PageSearch { branches_max: SEARCHED_BRANCHES, damaged, near, is_whole: false }
    }
}
