//! Directory trees that are already on the machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use walkdir::WalkDir;

use crate::error::{Error, Result};
use crate::workspace::output;

/// Minimum size in bytes of a toolchain's tree to be used.
const LARGE_TREE_BYTES: u64 = 64 << 20;

/// Returns the numbers of entries and of bytes below `root`, including `root` itself.
pub fn measure(root: &Path) -> Result<(u64, u64)> {
    let (mut entries, mut bytes) = (0, 0);
    for entry in WalkDir::new(root) {
        let entry =
            entry.map_err(|error| Error::Output { what: "walk", found: error.to_string() })?;
        entries += 1;
        if entry.file_type().is_file() {
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok((entries, bytes))
}

/// Returns a large tree of the toolchain: its documentation, or else the sources of downloaded crates.
pub fn large_tree() -> Option<PathBuf> {
    let candidates = [toolchain_documentation(), crate_sources()];
    let is_large = |path: &PathBuf| measure(path).is_ok_and(|(_, bytes)| bytes >= LARGE_TREE_BYTES);
    candidates.into_iter().flatten().find(is_large)
}

fn toolchain_documentation() -> Option<PathBuf> {
    let output = output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(sysroot.trim()).join("share/doc"))
}

fn crate_sources() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let source = home.join("registry/src");
    source.is_dir().then_some(source)
}
