//! What the stages of an ingest share, and what it comes to.

use ar7_registry::Archive;
use serde::Serialize;

use super::roots::{Exclusions, Root};
use super::walk::Tree;
use crate::arguments::Ingest;
use crate::interrupt::Interrupt;
use crate::json::JsonName;
use crate::progress::Progress;
use crate::session::Session;

/// Everything that the stages share.
pub(super) struct Run<'a> {
    pub(super) options: &'a Ingest,
    /// None in a dry run of an archive that is not there.
    pub(super) session: Option<&'a Session>,
    pub(super) tree: Tree<'a>,
    pub(super) exclusions: Exclusions,
    pub(super) roots: Vec<Root>,
    pub(super) interrupt: Interrupt,
    pub(super) progress: Progress,
}

impl Run<'_> {
    /// The archive, where there is one.
    pub(super) fn archive(&self) -> Option<&Archive> {
        self.session.map(|session| &session.archive)
    }
}

/// What was done. Entries and bytes are those of the walk that are in the archive now, stored by this run or before.
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
    /// One line.
    pub(super) fn summary(&self, is_dry: bool) -> String {
        let Tally { entries, bytes, stored_files, stored_bytes, unchanged, .. } = self;
        let would = if is_dry { "would be " } else { "" };
        format!(
            "{entries} entries, {bytes} bytes: {stored_files} files of {stored_bytes} bytes {would}stored, \
             {unchanged} entries unchanged"
        )
    }
}
