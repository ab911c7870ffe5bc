//! What a salvage must return.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use ar7::uuid::Uuid;
use ar7::{Archive, Salvage, SalvageOutcome, Salvaged, Snapshot};
use ar7_engine::format::{ArchiveKind, DATA_SIZE, DATA_SIZE_U64};
use ar7_registry::records::EntryType;

use super::oracle::{Entry, Needs, Places, is_lost};
use super::reading::{Expected, ensure};
use super::specimen::{Specimen, read_all, text};

/// The new archive and the report.
struct Recovered {
    files: BTreeMap<String, Vec<u8>>,
    streams: BTreeMap<Uuid, Vec<u8>>,
    items: Vec<Salvaged>,
}

impl Expected<'_> {
    /// Salvages the archive at `path` into `new`, and checks the new one. `is_opened` says whether a meta slot names the
    /// newest commit.
    pub(super) fn check_salvage(
        &self,
        path: &Path,
        new: &Path,
        is_opened: bool,
    ) -> Result<(), String> {
        let key = Specimen::key();
        let mut items = Vec::new();
        let salvage = Salvage::new(path, &key).header(&self.specimen.header);
        let ran = salvage.run(new, &key, |item| items.push(item), |_| ControlFlow::Continue(()));
        ran.map_err(|error| format!("salvage fails: {error}"))?;
        let found = read_new(new, items)?;
        self.check_versions(&found)?;
        self.check_whole(&found)?;
        if is_opened {
            self.check_items(&found)?;
        }
        Ok(())
    }

    /// Checks that all content in the new archive is of one version each.
    fn check_versions(&self, found: &Recovered) -> Result<(), String> {
        for item in found.items.iter().filter(|item| item.outcome != SalvageOutcome::Lost) {
            let (what, content) = match (&item.path, item.stream) {
                (Some(path), _) => {
                    let path = text(path);
                    let content = found.files.get(&path);
                    (path, content)
                }
                (None, Some(stream)) => (stream.to_string(), found.streams.get(&stream)),
                (None, None) => continue,
            };
            let Some(content) = content.filter(|content| !content.is_empty()) else { continue };
            let is_exact = item.outcome == SalvageOutcome::Complete;
            // In `lost+found`, a stream begins with the first byte that is left.
            let begin = item.gaps.first().filter(|gap| gap.start == 0).map_or(0, |gap| gap.end);
            let is_moved = what.starts_with("lost+found");
            let begin = if is_moved { usize::try_from(begin).unwrap_or(usize::MAX) } else { 0 };
            let gaps: Vec<Range<u64>> = item
                .gaps
                .iter()
                .map(|gap| gap.start.saturating_sub(begin as u64)..gap.end - begin as u64)
                .filter(|gap| !gap.is_empty())
                .collect();
            let mut history = self.specimen.history.iter().filter_map(|of| of.get(begin..));
            ensure!(
                history.any(|version| agrees(version, content, &gaps, is_exact)),
                "salvage mixes versions in {what} ({:?})",
                item.outcome
            );
        }
        Ok(())
    }

    /// Checks that content whose blocks survive is in the new archive: in one piece, or, if nothing is left that tells
    /// its versions apart, in several. In an archive without names, there is no place for several.
    fn check_whole(&self, found: &Recovered) -> Result<(), String> {
        let is_left = |places: &Places| !is_lost(places, self.destroyed);
        let must_be_whole = |needs: &Needs| {
            // Frames of one inode may be of two versions.
            let is_one = !needs.is_mixed && needs.pieces.len() <= 1;
            let is_told_apart = is_one || needs.pages_survive(self.destroyed);
            is_told_apart && needs.blocks_survive(self.destroyed)
        };
        for entry in &self.oracle.entries {
            let Some(content) = self.specimen.files.get(&entry.path) else { continue };
            let needs = &entry.content;
            let is_known = needs.pieces.len() <= 1 || self.has_record(entry);
            if is_known && must_be_whole(needs) {
                let mut all = found.files.values();
                let is_there = content.is_empty() || all.any(|found| is_padded(found, content));
                ensure!(is_there, "salvage: the content of {} is missing", entry.path);
            }
            if self.oracle.is_redo_lost(self.destroyed) {
                continue;
            }
            for (block, _) in
                content.chunks(DATA_SIZE).zip(&needs.blocks).filter(|(_, at)| is_left(at))
            {
                let mut all = found.files.values();
                let has = |found: &Vec<u8>| found.chunks(DATA_SIZE).any(|of| of.starts_with(block));
                ensure!(all.any(has), "salvage: a block of {} is missing", entry.path);
            }
            for piece in needs.pieces.iter().filter(|piece| piece.survives(self.destroyed)) {
                let bytes = &content[piece.range.clone()];
                let has = |found: &Vec<u8>| found.windows(bytes.len()).any(|part| part == bytes);
                ensure!(
                    found.files.values().any(has),
                    "salvage: a frame of {} is missing",
                    entry.path
                );
            }
        }
        for (stream, needs) in &self.oracle.streams {
            let content = &self.specimen.streams[stream];
            let is_there = found.streams.get(stream).is_some_and(|found| is_padded(found, content));
            ensure!(!must_be_whole(needs) || is_there, "salvage: stream {stream} is missing");
        }
        Ok(())
    }

    /// Checks the report of an archive of which a meta slot is left.
    fn check_items(&self, found: &Recovered) -> Result<(), String> {
        for entry in &self.oracle.entries {
            let is_known = self.has_name(entry) && self.has_record(entry);
            if !is_known || !entry.content.pages_survive(self.destroyed) {
                continue;
            }
            self.check_item(found, entry)?;
        }
        if self.oracle.kind == ArchiveKind::Dynamic {
            return Ok(());
        }
        for (stream, needs) in &self.oracle.streams {
            if !needs.pages_survive(self.destroyed) {
                continue;
            }
            let content = &self.specimen.streams[stream];
            let lost = self.lost(needs, content.len());
            let mut items = found.items.iter();
            let is_of = |item: &&Salvaged| {
                item.stream == Some(*stream) && item.outcome != SalvageOutcome::Lost
            };
            let item = items.find(is_of);
            let gaps = item.map_or(&[][..], |item| &item.gaps);
            ensure!(
                are_within(gaps, &lost),
                "salvage: stream {stream}: gaps {gaps:?}, lost {lost:?}"
            );
            let is_right = found
                .streams
                .get(stream)
                .is_some_and(|salvaged| agrees(content, salvaged, gaps, gaps.is_empty()));
            ensure!(is_right, "salvage: stream {stream} has other content");
        }
        Ok(())
    }

    fn check_item(&self, found: &Recovered, entry: &Entry) -> Result<(), String> {
        let path = &entry.path;
        let mut items = found.items.iter();
        let item = items.find(|item| item.path.as_deref().is_some_and(|of| text(of) == *path));
        let Some(item) = item else { return Err(format!("salvage: {path} is not reported")) };
        let Some(content) = self.specimen.files.get(path) else {
            let is_whole = entry.content.survive(self.destroyed);
            let is_lost = item.outcome == SalvageOutcome::Lost;
            ensure!(
                entry.kind != EntryType::Symlink || is_whole != is_lost,
                "salvage: the link {path} is {:?}",
                item.outcome
            );
            return Ok(());
        };
        let lost = self.lost(&entry.content, content.len());
        let gaps = &item.gaps;
        ensure!(are_within(gaps, &lost), "salvage: {path}: gaps {gaps:?}, lost {lost:?}");
        let is_complete = item.outcome == SalvageOutcome::Complete;
        let must_be = lost.is_empty() && self.has_attributes(entry);
        ensure!(is_complete || !must_be, "salvage: {path} is {:?}", item.outcome);
        ensure!(!is_complete || gaps.is_empty(), "salvage: {path} is complete with gaps {gaps:?}");
        let salvaged = found.files.get(path).ok_or(format!("salvage: {path} is missing"))?;
        let is_right = agrees(content, salvaged, gaps, gaps.is_empty());
        ensure!(is_right, "salvage: {path} has other content");
        Ok(())
    }

    /// Returns the ranges of a content that are lost. A free block may still hold some of them.
    fn lost(&self, needs: &Needs, length: usize) -> Vec<Range<u64>> {
        let blocks = (0_u64..).zip(&needs.blocks).filter_map(|(index, places)| {
            let start = index * DATA_SIZE_U64;
            let range = start..(start + DATA_SIZE_U64).min(length as u64);
            is_lost(places, self.destroyed).then_some(range)
        });
        let pieces = needs.pieces.iter().filter_map(|piece| {
            let range = piece.range.start as u64..piece.range.end as u64;
            (!piece.survives(self.destroyed)).then_some(range)
        });
        let mut lost: Vec<Range<u64>> = Vec::new();
        for range in blocks.chain(pieces) {
            match lost.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => lost.push(range),
            }
        }
        lost
    }
}

fn read_new(path: &Path, items: Vec<Salvaged>) -> Result<Recovered, String> {
    let failed = |error: ar7::Error| format!("the new archive: {error}");
    let archive = Archive::open(path, &Specimen::key()).map_err(failed)?;
    let mut findings = Vec::new();
    let verified = archive.verify(|found| findings.push(found), |_| ControlFlow::Continue(()));
    verified.map_err(failed)?;
    ensure!(findings.is_empty(), "the new archive: {}", findings[0]);
    let snapshot = archive.snapshot().map_err(failed)?;
    let files = files_of(&snapshot).map_err(failed)?;
    let streams = streams_of(&snapshot, archive.kind()).map_err(failed)?;
    Ok(Recovered { files, streams, items })
}

fn files_of(snapshot: &Snapshot) -> ar7::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let Ok(walk) = snapshot.walk("") else { return Ok(files) };
    for entry in walk {
        let entry = entry?;
        if entry.metadata.is_file() {
            files.insert(text(&entry.path), snapshot.read(&entry.path)?);
        }
    }
    Ok(files)
}

fn streams_of(snapshot: &Snapshot, kind: ar7::Kind) -> ar7::Result<BTreeMap<Uuid, Vec<u8>>> {
    let mut streams = BTreeMap::new();
    if kind == ar7::Kind::Single {
        streams.insert(Uuid::nil(), read_all(snapshot.stream(Uuid::nil())?)?);
    }
    for stream in snapshot.streams()? {
        let id = stream?.id;
        streams.insert(id, read_all(snapshot.stream(id)?)?);
    }
    Ok(streams)
}

/// Returns whether every gap is within one of the ranges.
fn are_within(gaps: &[Range<u64>], ranges: &[Range<u64>]) -> bool {
    let is_within = |gap: &Range<u64>| {
        ranges.iter().any(|range| range.start <= gap.start && gap.end <= range.end)
    };
    gaps.iter().all(is_within)
}

/// Returns whether content equals a version, up to the end of its last block: nothing may state where it ends.
fn is_padded(found: &[u8], version: &[u8]) -> bool {
    found.starts_with(version) && found.len() <= version.len().next_multiple_of(DATA_SIZE)
}

/// Returns whether content is that of a version everywhere outside of the gaps.
fn agrees(version: &[u8], found: &[u8], gaps: &[Range<u64>], is_exact: bool) -> bool {
    if is_exact {
        return found == version;
    }
    let is_gap = |at: usize| gaps.iter().any(|gap| gap.contains(&(at as u64)));
    let is_end = |at: usize| at >= version.len() && at < version.len().next_multiple_of(DATA_SIZE);
    let is_right = |(at, byte): (usize, &u8)| {
        version.get(at).is_some_and(|of| of == byte) || is_end(at) || is_gap(at)
    };
    found.iter().enumerate().all(is_right)
}
