//! Outcomes of a power cut: which of the versions of each block the disk holds.

use ar7_engine::device::simulated::{Cut, Kept, Medium};

/// Of each block whose content is not certain, the number of versions.
pub(super) fn uncertain_versions(medium: &Medium) -> Vec<usize> {
    medium.uncertain().iter().map(|block| block.versions).collect()
}

/// The outcome of this number, of all that there are.
pub(super) fn every_cut(number: usize, lengths: usize, versions: &[usize]) -> Cut {
    let mut left = number / lengths;
    let kept = versions.iter().map(|versions| {
        let kept = Kept::Whole(left % versions);
        left /= versions;
        kept
    });
    Cut { kept: kept.collect(), length: number % lengths }
}

/// All of it kept, or all of it lost.
pub(super) fn one_way(lengths: usize, versions: &[usize], is_kept: bool) -> Cut {
    let kept = |&versions: &usize| Kept::Whole(if is_kept { versions - 1 } else { 0 });
    Cut { length: if is_kept { lengths - 1 } else { 0 }, kept: versions.iter().map(kept).collect() }
}

/// Each prefix, and each block alone kept or lost; with the shortest history of the length and with the longest.
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
