//! C libraries that are loaded before the C library.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::workspace::root;

/// Builds a library of `fuzz/shim` in `folder`, or returns the reason why it cannot.
pub(crate) fn build(name: &str, folder: &Path) -> std::result::Result<PathBuf, String> {
    let library = folder.join(format!("{name}.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library);
    compiler.arg(root().join(format!("fuzz/shim/{name}.c"))).arg("-ldl");
    let built = compiler.output().map_err(|error| format!("cc: {error}"))?;
    if built.status.success() {
        return Ok(library);
    }
    Err(String::from_utf8_lossy(&built.stderr).into_owned())
}
