//! Finding the names of the archive that a directory of the source does not have.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ar7_registry::Names;
use ar7_registry::records::InodeNumber;

/// The number of names to read at a time.
const PAGE: usize = 256;

/// The names of a directory in the archive, compared in ascending order with those of the source.
pub(super) struct Mirror {
    directory: InodeNumber,
    page: VecDeque<Vec<u8>>,
    /// The last name that was read from the archive.
    last: Option<Vec<u8>>,
    is_whole: bool,
}

impl Mirror {
    pub(super) fn new(directory: InodeNumber) -> Mirror {
        Mirror { directory, page: VecDeque::new(), last: None, is_whole: false }
    }

    /// Returns the next name of the archive that is below `bound`, the next name of the source, or any next name if the
    /// source has no more.
    pub(super) fn next_below(
        &mut self,
        names: &Names<'_>,
        bound: Option<&OsStr>,
    ) -> ar7_registry::Result<Option<Vec<u8>>> {
        loop {
            let Some(next) = self.page.front() else {
                if self.is_whole {
                    return Ok(None);
                }
                self.turn_page(names)?;
                continue;
            };
            return match bound.map(OsStr::as_bytes) {
                Some(bound) if next.as_slice() > bound => Ok(None),
                Some(bound) if next.as_slice() == bound => {
                    self.page.pop_front();
                    Ok(None)
                }
                _ => Ok(self.page.pop_front()),
            };
        }
    }

    fn turn_page(&mut self, names: &Names<'_>) -> ar7_registry::Result<()> {
        let page = names.list(self.directory, self.last.as_deref(), PAGE)?;
        self.is_whole = page.len() < PAGE;
        self.page = page.into_iter().map(|entry| entry.name).collect();
        self.last = self.page.back().cloned().or(self.last.take());
        Ok(())
    }
}
