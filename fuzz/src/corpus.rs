//! The inputs stored in the tree: the seeds of each target, and inputs that a campaign found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::targets::{TARGETS, Target};

/// The purpose of stored inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// A campaign starts with them.
    Seeds,
    /// They broke a promise once, and are replayed by every test run.
    Regressions,
    /// A campaign found that they reach new code. Not in the tree.
    Found,
}

impl Inputs {
    /// Returns the directory with the inputs of a target.
    pub fn folder(self, target: &Target) -> PathBuf {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = match self {
            Inputs::Seeds => "seeds",
            Inputs::Regressions => "regressions",
            Inputs::Found => "corpus",
        };
        own.join(folder).join(target.name)
    }

    /// Returns the inputs of a target, in the order of their names; none if the directory does not exist.
    pub fn read(self, target: &Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
        let entries = match fs::read_dir(self.folder(target)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry?.path());
        }
        paths.sort();
        paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
    }
}

/// Writes the seeds of every target into the tree, replacing the existing ones. Returns their number.
pub fn write_seeds() -> io::Result<usize> {
    let mut count = 0;
    for target in TARGETS {
        let folder = Inputs::Seeds.folder(target);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&folder)?,
        }
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
            count += 1;
        }
    }
    Ok(count)
}
