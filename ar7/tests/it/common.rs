//! Archives in temporary folders, and their content.

use std::ops::ControlFlow;
use std::path::PathBuf;

use ar7::{Archive, Key};
use tempfile::TempDir;

pub(crate) fn key() -> Key {
    Key::from([5; 32])
}

/// Makes a new archive. Returns it with its folder and path.
pub(crate) fn create() -> (TempDir, PathBuf, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.ar7");
    let archive = Archive::create(&path, &key()).unwrap();
    (folder, path, archive)
}

/// Returns bytes that differ from block to block, and between values of `salt`.
pub(crate) fn pattern(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 7 + at / 4008 + salt) % 251).unwrap()).collect()
}

/// Checks that verification has no findings.
pub(crate) fn assert_verified(archive: &Archive) {
    let mut findings = Vec::new();
    let report = |finding: ar7::Finding| findings.push(finding.to_string());
    let summary = archive.verify(report, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    assert_eq!(summary.findings, 0);
}
