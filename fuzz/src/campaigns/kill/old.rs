//! An archive of the Python module, to import.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::ar7::Ar7;
use xtask::error::{Error, Result};

use crate::archive7::{OldTree, old_tree};

/// A generated archive of the Python module, and its key.
pub(super) struct Old {
    archive: PathBuf,
    key: PathBuf,
    /// The number of entries that an import stores.
    pub(super) entries: u64,
    is_all_kept: bool,
}

impl Old {
    pub(super) fn new(folder: &Path, seed: u64) -> Result<Old> {
        let OldTree { file, key: bytes, entries, is_all_kept } = old_tree(seed);
        let (archive, key) = (folder.join("old.archive7"), folder.join("old.key"));
        fs::write(&archive, file).map_err(Error::io("write", &archive))?;
        fs::write(&key, bytes).map_err(Error::io("write", &key))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&key, mode).map_err(Error::io("set mode", &key))?;
        Ok(Old { archive, key, entries, is_all_kept })
    }

    /// Returns the command that imports it.
    pub(super) fn import(&self, ar7: &Ar7, new: &Path) -> Command {
        let mut command = ar7.command(["import-archive7"]);
        command.arg(&self.archive).arg(new).arg("--old-key-file").arg(&self.key);
        command
    }

    /// Returns the exit codes of an import: a report of what is not as it was is no failure.
    pub(super) fn codes(&self) -> &'static [i32] {
        if self.is_all_kept { &[0] } else { &[8] }
    }
}
