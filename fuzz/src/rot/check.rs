//! The checks of one damage.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::{AddAssign, ControlFlow};
use std::path::PathBuf;

use ar7::{Archive, Damage as Affected, Error};
use ar7_engine::format::{
    ArchiveKind, BLOCK_SIZE, HEADERS, META_SLOTS, Position, THIRD_COPIES, has_third_copies,
};
use tempfile::TempDir;

use super::damage::{Damage, How};
use super::oracle::{Opened, Oracle, is_lost};
use super::reading::{Expected, ensure};
use super::specimen::{Specimen, SpecimenKind, folder, text};

/// The blank blocks.
const BLANKS: [u32; 2] = [5, 6];

/// Counts of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Damages.
    pub damages: u64,
    /// Those after which the archive does not open, so that only salvage is checked.
    pub unopened: u64,
    /// Those that cost an entry or a stream.
    pub lossy: u64,
    /// Extractions that were compared.
    pub extractions: u64,
    /// Blocks that repairs restored.
    pub healed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.damages += other.damages;
        self.unopened += other.unopened;
        self.lossy += other.lossy;
        self.extractions += other.extractions;
        self.healed += other.healed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { damages, unopened, lossy, extractions, healed } = self;
        write!(
            formatter,
            "{damages} damages: {lossy} lossy, {unopened} did not open; {extractions} extractions, {healed} blocks \
             repaired"
        )
    }
}

/// Checks damages of one archive.
pub struct Rot<'a> {
    specimen: &'a Specimen,
    oracle: &'a Oracle,
    folder: TempDir,
}

impl<'a> Rot<'a> {
    /// Prepares to damage an archive.
    pub fn new(specimen: &'a Specimen, oracle: &'a Oracle) -> Rot<'a> {
        Rot { specimen, oracle, folder: folder() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a")
    }

    /// Applies a damage, and checks everything. Returns what is wrong.
    ///
    /// # Panics
    /// If the temporary folder cannot be used.
    pub fn check(&self, damage: &Damage, extracts: bool) -> Result<Tally, String> {
        let mut tally = Tally { damages: 1, ..Tally::default() };
        let mut image = self.specimen.image.clone();
        let destroyed = damage.apply(self.specimen, &mut image);
        fs::write(self.path(), &image).expect("the damaged archive");
        let expected =
            Expected { specimen: self.specimen, oracle: self.oracle, destroyed: &destroyed };
        if self.specimen.kind == SpecimenKind::Large && damage.blocks.len() > 2 {
            let mut pages = self.oracle.both_copies().into_iter();
            ensure!(!pages.any(|page| page.is_subset(&destroyed)), "both copies of a page");
        }
        let opened = Archive::open(self.path(), &Specimen::key());
        let is_opened = opened.is_ok();
        match opened {
            Ok(archive) => {
                expected.check_reading(&archive)?;
                tally.lossy += u64::from(self.check_verification(&archive, &expected, damage.how)?);
                if extracts && self.oracle.kind == ArchiveKind::Dynamic {
                    expected.check_extraction(&archive)?;
                    tally.extractions += 1;
                }
                drop(archive);
                tally.healed += self.check_repair(&expected, &image, damage.how)?;
            }
            Err(error) => {
                ensure!(!self.must_open(&destroyed), "it does not open: {error}");
                tally.unopened += 1;
            }
        }
        fs::write(self.path(), &image).expect("the damaged archive");
        let new = self.folder.path().join("new");
        let salvaged = expected.check_salvage(&self.path(), &new, is_opened);
        fs::remove_file(&new).ok();
        salvaged.map(|()| tally)
    }

    /// Returns whether an archive must open: a copy of the header and one of each meta slot are left, or the third copies.
    fn must_open(&self, destroyed: &BTreeSet<u32>) -> bool {
        let is_left = |positions: &[u32]| positions.iter().any(|at| !destroyed.contains(at));
        let mut third_copies = THIRD_COPIES;
        let is_third_left = third_copies.all(|at| !destroyed.contains(&at));
        if has_third_copies(self.oracle.slot.block_count) && is_third_left {
            return true;
        }
        is_left(&HEADERS.map(Position::get)) && is_left(&[1, 3]) && is_left(&[2, 4])
    }

    /// Returns the positions that verification must report, and those that it may.
    fn bad(&self, expected: &Expected<'_>, how: How) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let destroyed = expected.destroyed;
        let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
        let slots = META_SLOTS.map(Position::get);
        let headers = HEADERS.map(Position::get);
        let reserved = slots.into_iter().chain(headers).chain(BLANKS);
        for position in reserved.filter(|position| destroyed.contains(position)) {
            let is_certain = how != How::Older && !self.oracle.is_rekeying;
            if is_certain {
                must.insert(position)
            } else {
                may.insert(position)
            };
        }
        may.extend(THIRD_COPIES.filter(|position| destroyed.contains(position)));
        let is_bad = |opened: &Opened| is_lost(&opened.places, destroyed);
        for page in &self.oracle.pages {
            must.extend(page.copies.iter().filter(|copy| is_bad(copy)).map(|copy| copy.home));
        }
        must.extend(self.oracle.redo.iter().flatten().filter(|copy| destroyed.contains(copy)));
        must.extend(self.oracle.data.iter().filter(|block| is_bad(block)).map(|block| block.home));
        (must, may)
    }

    /// Verifies, and checks what is reported. Returns whether an entry is affected.
    fn check_verification(
        &self,
        archive: &Archive,
        expected: &Expected<'_>,
        how: How,
    ) -> Result<bool, String> {
        let mut findings = Vec::new();
        let ran = archive.verify(|found| findings.push(found), |_| ControlFlow::Continue(()));
        ran.map_err(|error| format!("verify does not end: {error}"))?;
        let found: BTreeSet<u32> =
            findings.iter().filter_map(|found| position_of(&found.error)).collect();
        let (must, may) = self.bad(expected, how);
        let pages = &self.oracle.pages;
        let is_gone = |copies: &[Opened; 2]| copies.iter().all(|copy| must.contains(&copy.home));
        let is_page_gone = pages.iter().any(|page| is_gone(&page.copies))
            || self.oracle.is_redo_lost(expected.destroyed);
        if !is_page_gone {
            let missing = must.iter().find(|position| !found.contains(position));
            ensure!(missing.is_none(), "verify does not report block {missing:?}");
            let over = found.iter().find(|at| !must.contains(at) && !may.contains(at));
            ensure!(over.is_none(), "verify reports block {over:?}: {findings:?}");
            ensure!(findings.len() == found.len(), "verify: {findings:?}");
        }
        ensure!(must.is_empty() || !findings.is_empty(), "verify reports nothing");
        if let Some(position) = self.destroyed_third_copy(expected, how) {
            // It is a fault, or a warning if a crash may have torn it.
            let is_noticed =
                found.contains(&position) || archive.damaged_copies().blocks().contains(&position);
            ensure!(is_noticed, "verify does not notice block {position}");
        }
        let mut damage = Affected::default();
        for found in &findings {
            damage.add(found);
        }
        let snapshot = archive.snapshot().map_err(|error| error.to_string())?;
        let affected = damage.paths(&snapshot).map_err(|error| error.to_string())?;
        let affected: BTreeSet<String> = affected.map(|path| text(&path)).collect();
        let mut is_lossy = false;
        for entry in self.oracle.entries.iter().filter(|entry| expected.has_name(entry)) {
            let unread = &entry.content.unread;
            let is_whole = expected.has_content(entry)
                && expected.has_attributes(entry)
                && unread.iter().all(|places| !is_lost(places, expected.destroyed));
            is_lossy |= !is_whole;
            let (path, is_listed) = (&entry.path, affected.contains(&entry.path));
            ensure!(is_whole || is_listed, "verify does not list {path} as affected");
            ensure!(!is_whole || is_page_gone || !is_listed, "verify lists {path} as affected");
        }
        let mut streams = self.oracle.streams.values();
        Ok(is_lossy || streams.any(|needs| !needs.survive(expected.destroyed)))
    }

    /// Returns the third copy of header or meta slot that alone is destroyed.
    fn destroyed_third_copy(&self, expected: &Expected<'_>, how: How) -> Option<u32> {
        let has_third = has_third_copies(self.oracle.slot.block_count);
        let is_certain = has_third && how != How::Older && !self.oracle.is_rekeying;
        let is_alone = |position: &u32| *expected.destroyed == BTreeSet::from([*position]);
        THIRD_COPIES.filter(|_| is_certain).find(is_alone)
    }

    /// Repairs, and checks that everything with a good copy is restored and nothing else changed. Returns the number of
    /// repaired blocks.
    fn check_repair(
        &self,
        expected: &Expected<'_>,
        damaged: &[u8],
        how: How,
    ) -> Result<u64, String> {
        let repaired = match Archive::options().repair(self.path(), &Specimen::key()) {
            Err(Error::RekeyInProgress) if self.oracle.is_rekeying => return Ok(0),
            repaired => repaired.map_err(|error| format!("repair fails: {error}"))?,
        };
        let healed: BTreeSet<u32> = repaired.healed.iter().copied().collect();
        let image = fs::read(self.path()).expect("the repaired archive");
        let changed = (0..).zip(image.chunks(BLOCK_SIZE).zip(damaged.chunks(BLOCK_SIZE)));
        for (position, _) in changed.filter(|(_, (one, other))| one != other) {
            let is_own = healed.contains(&position) && expected.destroyed.contains(&position);
            ensure!(is_own, "repair changes block {position}, and reports {healed:?}");
        }
        ensure!(image.len() == damaged.len(), "repair changes the length of the file");
        let mut left = expected.destroyed.clone();
        left.retain(|position| !healed.contains(position));
        for [shadow, home] in &self.oracle.copied_home {
            let is_listed = !self.oracle.is_redo_lost(expected.destroyed);
            let is_healable = is_listed && !expected.destroyed.contains(home);
            ensure!(!is_healable || !left.contains(shadow), "repair leaves shadow block {shadow}");
        }
        for copies in self.copies() {
            let lost = copies.iter().filter(|copy| left.contains(copy)).count();
            ensure!(lost == 0 || lost == copies.len(), "repair leaves one of {copies:?}");
        }
        let archive = Archive::open(self.path(), &Specimen::key())
            .map_err(|error| format!("the repaired archive: {error}"))?;
        let expected = Expected { destroyed: &left, ..*expected };
        let in_repaired = |wrong: String| format!("after repair: {wrong}");
        expected.check_reading(&archive).map_err(in_repaired)?;
        self.check_verification(&archive, &expected, how).map_err(in_repaired)?;
        Ok(healed.len() as u64)
    }

    /// Returns the positions of blocks that exist several times, and that repair must restore from each other.
    fn copies(&self) -> Vec<Vec<u32>> {
        let pages = self.oracle.pages.iter();
        let pages = pages.map(|page| page.copies.iter().map(|copy| copy.home).collect());
        let redo = self.oracle.redo.iter().map(|copies| copies.to_vec());
        // The other pair holds the commit before. A bad copy of it may have held a newer one.
        let newest = if self.oracle.slot.number % 2 == 1 { [1, 3] } else { [2, 4] };
        let headers = HEADERS.map(Position::get).to_vec();
        pages.chain(redo).chain([newest.to_vec(), headers]).collect()
    }
}

fn position_of(error: &Error) -> Option<u32> {
    match error {
        Error::Damaged(fault) | Error::Tampered(fault) => fault.position.map(Position::get),
        _ => None,
    }
}
