//! A copy-on-write B+tree over blocks: keys and values are byte strings, in the order of the bytes.
//!
//! Committed pages are never changed. A page that changes is copied into memory, where it is
//! *dirty* and known to its parent by a number; [`Tree::flush`] gives every dirty page a
//! position and hands it over to be sealed. A [`TreeReader`] reads a committed tree; both
//! read through the same `Cursor`.

mod change;
mod cursor;
mod page;
mod reader;
mod relocate;
mod space;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod working;

pub use cursor::{Entry, Range};
pub use page::{CELL_MAX, KEY_MAX, Page, PageExpectation, TreeNumber, page_layout};
pub use reader::TreeReader;
pub use space::{PageSpace, PageStore};
pub use working::Tree;
