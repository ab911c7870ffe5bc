//! What reading, listing and extraction must return from a damaged archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ar7::fs::Extract;
use ar7::{Archive, Error, Snapshot};
use ar7_registry::records::{EntryType, InodeNumber};

use super::oracle::{Entry, Oracle};
use super::specimen::{Specimen, folder, read_all, text};

/// What survives of each entry.
pub(super) struct Expected<'a> {
    pub(super) specimen: &'a Specimen,
    pub(super) oracle: &'a Oracle,
    pub(super) destroyed: &'a BTreeSet<u32>,
}

/// Fails with a text unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}
pub(super) use ensure;

impl Expected<'_> {
    pub(super) fn has_name(&self, entry: &Entry) -> bool {
        entry.name.survive(self.destroyed)
    }

    pub(super) fn has_record(&self, entry: &Entry) -> bool {
        entry.record.survive(self.destroyed)
    }

    pub(super) fn has_content(&self, entry: &Entry) -> bool {
        self.has_record(entry) && entry.content.survive(self.destroyed)
    }

    pub(super) fn has_attributes(&self, entry: &Entry) -> bool {
        self.has_record(entry) && entry.attributes.survive(self.destroyed)
    }

    /// Returns the path of the deepest directory above an entry whose name is left. Names in it are missing.
    fn cut_at(&self, entry: &Entry) -> String {
        let mut path = entry.path.as_str();
        while let Some((above, _)) = path.rsplit_once('/') {
            path = above;
            let known = self.oracle.entries.iter().find(|entry| entry.path == path);
            if known.is_some_and(|known| self.has_name(known)) {
                return path.to_owned();
            }
        }
        String::new()
    }

    /// Returns the directories that must be reported because they miss names, and those that may be.
    fn incomplete(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let missing = self.oracle.entries.iter().filter(|entry| !self.has_name(entry));
        let must = missing.map(|entry| self.cut_at(entry)).collect();
        let root = (String::new(), InodeNumber::ROOT.0);
        let directories = self
            .oracle
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryType::Directory && self.has_name(entry));
        let directories = directories.map(|entry| (entry.path.clone(), entry.inode));
        let may = directories
            .chain([root])
            .filter(|(_, inode)| self.oracle.may_miss_names(*inode, self.destroyed))
            .map(|(path, _)| path);
        (must, may.collect())
    }

    /// Checks everything that reading returns.
    pub(super) fn check_reading(&self, archive: &Archive) -> Result<(), String> {
        let snapshot = archive.snapshot().map_err(|error| format!("snapshot: {error}"))?;
        for (&id, needs) in &self.oracle.streams {
            let read = snapshot.stream(id).and_then(read_all);
            let content = self.specimen.streams.get(&id);
            self.compare(&format!("stream {id}"), read, content, needs.survive(self.destroyed))?;
        }
        if self.oracle.kind != ar7_engine::format::ArchiveKind::Dynamic {
            return Ok(());
        }
        self.check_listing(&snapshot)?;
        for entry in self.oracle.entries.iter().filter(|entry| self.has_name(entry)) {
            self.check_entry(&snapshot, entry)?;
        }
        Ok(())
    }

    fn check_listing(&self, snapshot: &Snapshot) -> Result<(), String> {
        let (mut listed, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for entry in snapshot.walk("").map_err(|error| format!("walk: {error}"))? {
            match entry {
                Ok(entry) => ensure!(
                    listed.insert(text(&entry.path)),
                    "{} is listed twice",
                    entry.path.display()
                ),
                Err(Error::InEntry { path, .. }) => {
                    failed.insert(text(&path));
                }
                Err(error) => return Err(format!("a listing without a path: {error}")),
            }
        }
        let (must, may) = self.incomplete();
        let known: BTreeMap<&str, &Entry> =
            self.oracle.entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
        for path in &must {
            ensure!(failed.contains(path), "names in {path:?} are lost without a word: {failed:?}");
        }
        for entry in self.oracle.entries.iter().filter(|entry| self.has_name(entry)) {
            let (path, has_record) = (&entry.path, self.has_record(entry));
            ensure!(listed.contains(path) == has_record, "{path} listed: {}", !has_record);
            ensure!(has_record || failed.contains(path), "{path} is lost without a word");
        }
        for path in &failed {
            let is_lost = known.get(path.as_str()).is_some_and(|entry| !self.has_record(entry));
            ensure!(is_lost || may.contains(path), "{path:?} is reported and not lost");
        }
        let unknown = listed.iter().find(|path| !known.contains_key(path.as_str()));
        ensure!(unknown.is_none(), "{unknown:?} is listed and does not exist");
        Ok(())
    }

    fn check_entry(&self, snapshot: &Snapshot, entry: &Entry) -> Result<(), String> {
        let path = entry.path.as_str();
        match entry.kind {
            EntryType::File => {
                let content = self.specimen.files.get(path);
                self.compare(path, snapshot.read(path), content, self.has_content(entry))?;
            }
            EntryType::Symlink => {
                let target = self.specimen.targets.get(path);
                self.compare(path, snapshot.read_link(path), target, self.has_content(entry))?;
            }
            _ => {}
        }
        let attributes = self.specimen.attributes.get(path).cloned().unwrap_or_default();
        let found = snapshot.extended_attributes(path);
        let what = format!("attributes of {path}");
        self.compare(&what, found, Some(&attributes), self.has_attributes(entry))
    }

    /// Extracts everything, and checks what is restored and what is listed as lost.
    pub(super) fn check_extraction(&self, archive: &Archive) -> Result<u64, String> {
        let snapshot = archive.snapshot().map_err(|error| format!("snapshot: {error}"))?;
        let folder = folder();
        let to = folder.path().join("out");
        let report = Extract::new().to(&to).run(&snapshot);
        let report = report.map_err(|error| format!("the extraction fails: {error}"))?;
        let relative = |path: &Path| text(path.strip_prefix(&to).unwrap_or(path));
        let failed: BTreeSet<String> =
            report.not_restored.iter().map(|failure| relative(&failure.path)).collect();
        let (must, may) = self.incomplete();
        let mut lost: BTreeSet<String> = BTreeSet::new();
        for entry in self.oracle.entries.iter().filter(|entry| self.has_name(entry)) {
            let is_content = matches!(entry.kind, EntryType::File | EntryType::Symlink);
            if !self.has_record(entry) || (is_content && !self.has_content(entry)) {
                lost.insert(entry.path.clone());
                continue;
            }
            self.check_restored(&to, entry)?;
            if !self.has_attributes(entry) {
                lost.insert(entry.path.clone());
            }
        }
        for path in must.iter().chain(&lost) {
            ensure!(failed.contains(path), "extract: {path:?} is lost without a word: {failed:?}");
        }
        let over = failed.iter().find(|path| !lost.contains(*path) && !may.contains(*path));
        ensure!(over.is_none(), "extract: {over:?} is reported and not lost");
        Ok(lost.len() as u64 + must.len() as u64)
    }

    fn check_restored(&self, to: &Path, entry: &Entry) -> Result<(), String> {
        let (path, restored) = (entry.path.as_str(), to.join(&entry.path));
        let is_right = match entry.kind {
            EntryType::File => fs::read(&restored).ok().as_ref() == self.specimen.files.get(path),
            EntryType::Symlink => {
                fs::read_link(&restored).ok().as_ref() == self.specimen.targets.get(path)
            }
            EntryType::Directory => restored.is_dir(),
            _ => fs::symlink_metadata(&restored).is_ok(),
        };
        ensure!(is_right, "extract: {path} is not restored");
        Ok(())
    }

    /// Compares what was read with what was written, if it survives; otherwise it must be an error. If the redo list is
    /// lost, a home location may hold what a destroyed shadow block held.
    fn compare<T: PartialEq>(
        &self,
        what: &str,
        found: ar7::Result<T>,
        content: Option<&T>,
        survives: bool,
    ) -> Result<(), String> {
        match (found, survives) {
            (Ok(found), _) if Some(&found) != content => Err(format!("{what} has other content")),
            (Ok(_), false) if !self.oracle.is_redo_lost(self.destroyed) => {
                Err(format!("{what} is read although it is destroyed"))
            }
            (Ok(_), _)
            | (Err(Error::Damaged(_) | Error::Tampered(_) | Error::InEntry { .. }), false) => {
                Ok(())
            }
            (Err(error), true) => Err(format!("{what} is not read: {error}")),
            (Err(error), false) => Err(format!("{what}: an unexpected error: {error}")),
        }
    }
}
