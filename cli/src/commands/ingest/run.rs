//! The state that the stages of an ingest share, and its result.

use ar7_registry::Archive;
use serde::Serialize;

use super::roots::{Exclusions, Root};
use super::walk::Tree;
use crate::arguments::Ingest;
use crate::interrupt::Interrupt;
use crate::json::JsonName;
use crate::progress::Progress;
use crate::session::Session;

/// The state that the stages share.
pub(super) struct Run<'a> {
    pub(super) options: &'a Ingest,
    /// `None` in a dry run if the archive does not exist.
    pub(super) session: Option<&'a Session>,
    pub(super) tree: Tree<'a>,
    pub(super) exclusions: Exclusions,
    pub(super) roots: Vec<Root>,
    pub(super) interrupt: Interrupt,
    pub(super) progress: Progress,
}

impl Run<'_> {
    /// Returns the archive, if it exists.
    pub(super) fn archive(&self) -> Option<&Archive> {
        self.session.map(|session| &session.archive)
    }
}

/// The result of a run. Entries and bytes count everything visited that is now in the archive, whether this run or an
/// earlier one stored it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) stored_files: u64,
    pub(super) stored_bytes: u64,
    pub(super) unchanged: u64,
    pub(super) skipped: Vec<JsonName>,
    pub(super) unread: Vec<JsonName>,
    pub(super) checkpoints: u64,
}

impl Tally {
    /// Returns a summary in one line.
    pub(super) fn summary(&self, is_dry: bool) -> String {
        let Tally { entries, bytes, stored_files, stored_bytes, unchanged, .. } = self;
        let would = if is_dry { "would be " } else { "" };
        format!(
            "{entries} entries, {bytes} bytes: {stored_files} files of {stored_bytes} bytes {would}stored, \
             {unchanged} entries unchanged"
        )
    }
}
