//! The project's programs that need the engine. Cargo builds them on use, and this module starts them.

use std::ffi::OsString;

use xtask::error::{Error, Result};
use xtask::workspace::{cargo, shown};

/// Runs a campaign of the fuzz crate.
pub(crate) fn campaign(name: &str, options: &[OsString]) -> Result<()> {
    let mut program = vec!["--package", "ar7-fuzz", "--bin", "campaign"];
    if matches!(name, "mount-faults" | "mount-model" | "mount-programs") {
        program.extend(["--features", "fuse"]);
    }
    program.extend(["--", name]);
    start("campaign", &program, options)
}

/// Runs the measurements of the benches crate.
pub(crate) fn bench(options: &[OsString]) -> Result<()> {
    start("bench", &["--package", "ar7-benches", "--bin", "bench", "--"], options)
}

fn start(step: &'static str, program: &[&str], options: &[OsString]) -> Result<()> {
    let mut command = cargo(&["run", "--locked", "--quiet"]);
    command.args(program).args(options);
    let status =
        command.status().map_err(|source| Error::Start { command: shown(&command), source })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Step { step, command: shown(&command), status: status.to_string() })
}
