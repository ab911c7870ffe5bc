//! A copy-on-write B+tree over blocks. Keys and values are byte strings, and keys are in byte
//! order.
//!
//! Committed pages are never changed in place. To change a page, the tree copies it into memory. It
//! is then *dirty*, and its parent refers to it by a number. [`Tree::flush`] gives every dirty page
//! a position and hands it over to be sealed. A [`TreeReader`] reads a committed tree. Both read
//! through the same `Cursor`.

mod change;
mod cursor;
mod damage;
mod division;
mod encoding;
mod fill;
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
pub use encoding::page_layout;
pub use page::{CELL_MAX, KEY_MAX, Page, PageExpectation, TreeNumber};
pub use reader::TreeReader;
pub use relocate::SearchStart;
pub use space::{PageSpace, PageStore};
pub use working::Tree;
