//! Finds where a tree continues after a page that does not open.

use super::cursor::{Cursor, View};
use super::space::PageStore;

impl<S: PageStore + ?Sized> Cursor<'_, S> {
    /// Returns the end of the keys that the first unreadable page at or after `from` holds or leads to. Returns `None`
    /// if no page comes after it, or if every page opens.
    pub(crate) fn past_damage(view: View<'_, S>, from: &[u8]) -> Option<Vec<u8>> {
        let mut from = from.to_vec();
        loop {
            let (end, is_readable) = end_of_path(view, &from);
            from = end?;
            if !is_readable {
                return Some(from);
            }
        }
    }
}

/// Descends to the leaf of a key. Returns the first key after the last page of the path, and whether that page is the
/// leaf or one that does not open.
fn end_of_path<S: PageStore + ?Sized>(view: View<'_, S>, key: &[u8]) -> (Option<Vec<u8>>, bool) {
    let Some(mut child) = view.root else { return (None, true) };
    let mut cursor = Cursor { view, path: Vec::new() };
    let mut end = None;
    loop {
        let Ok(page) = cursor.page(child) else { return (end, false) };
        if !page.is_branch() {
            return (end, true);
        }
        let cell = page.child_for(key);
        if cell + 1 < page.count() {
            end = Some(page.key(cell + 1).to_vec());
        }
        child = page.child(cell);
        cursor.path.push((page, cell));
    }
}
