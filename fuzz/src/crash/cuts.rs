//! Outcomes of a power cut: which version of each block the disk holds.

use ar7_engine::device::simulated::{Cut, Kept, Medium};

/// Returns the number of possible versions of each block whose content is uncertain.
pub(super) fn uncertain_versions(medium: &Medium) -> Vec<usize> {
    medium.uncertain().iter().map(|block| block.versions).collect()
}

/// Returns the outcome with this number, of all possible outcomes.
pub(super) fn every_cut(number: usize, lengths: usize, versions: &[usize]) -> Cut {
    let mut left = number / lengths;
    let kept = versions.iter().map(|versions| {
        let kept = Kept::Whole(left % versions);
        left /= versions;
        kept
    });
    Cut { kept: kept.collect(), length: number % lengths }
}

/// Returns the outcome in which everything is kept, or everything is lost.
pub(super) fn one_way(lengths: usize, versions: &[usize], is_kept: bool) -> Cut {
    let kept = |&versions: &usize| Kept::Whole(if is_kept { versions - 1 } else { 0 });
    Cut { length: if is_kept { lengths - 1 } else { 0 }, kept: versions.iter().map(kept).collect() }
}

/// Returns the outcomes in which each prefix is kept, and those in which each single block is kept or lost; with the
/// shortest and with the longest history of the file's length.
pub(super) fn plain_cuts(lengths: usize, versions: &[usize]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let (lost, kept) = (one_way(lengths, versions, false), one_way(lengths, versions, true));
    for at in 0..=versions.len() {
        let prefix = kept.kept[..at].iter().chain(&lost.kept[at..]).copied().collect();
        cuts.push(Cut { length: kept.length, kept: prefix });
    }
    for at in 0..versions.len() {
        let (mut alone, mut missing) = (lost.clone(), kept.clone());
        alone.kept[at] = kept.kept[at];
        alone.length = kept.length;
        missing.kept[at] = lost.kept[at];
        cuts.extend([alone, missing]);
    }
    cuts.push(Cut { length: lost.length, ..kept });
    cuts.push(lost);
    cuts
}
