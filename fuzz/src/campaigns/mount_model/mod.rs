//! `cargo xtask mount-model`: random operations on a mounted archive.
//!
//! - Threads do the same operations on the mount and on a directory of the host, each thread below a directory of its
//!   own. Both must have the same outcome: the same error, status, bytes and names. The archive must verify, and hold the
//!   same tree after it was unmounted.
//! - Processes that serve a mount are killed at random, also during a commit. The archive must then verify, and be in
//!   the state after one of the operations: not before the last one that an fsync had covered, and with content that
//!   agrees with the names.

mod kill;
mod pair;
mod state;

use std::path::Path;
use std::time::Instant;

use clap::Args;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::quantity::seconds;
use xtask::workspace::built_program;

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of operations that are compared with those on a directory of the host
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    operations: u64,
    /// Number of processes to kill
    #[arg(long, value_name = "COUNT", default_value_t = 300)]
    kills: u64,
    /// Threads that work at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    threads: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program that the tests built, instead of a new one in release
    #[arg(long)]
    tested: bool,
}

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    if !Path::new("/dev/fuse").exists() {
        println!("mount-model: skipped: no /dev/fuse");
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("ar7-mount-model-").tempdir();
    let folder = folder.map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let ar7 = if options.tested {
        Ar7::at(&built_program("debug", "ar7")?, folder.path())?
    } else {
        Ar7::build(folder.path())?
    };
    let compared = pair::run(&ar7, folder.path(), options)?;
    println!("mount-model: {compared} operations had the same outcome");
    let kills = kill::run(&ar7, folder.path(), options)?;
    println!(
        "mount-model: {} kills left {} states: {} of the last operation, {} operations were lost",
        kills.count, kills.states, kills.whole, kills.lost
    );
    println!("mount-model: seed {}, {}: no fault", options.seed, seconds(started.elapsed()));
    Ok(())
}

/// A mounted archive, and the process that serves it.
struct Mounted<'a> {
    ar7: &'a Ar7,
    directory: &'a Path,
    process: Option<Pid>,
}

impl<'a> Mounted<'a> {
    fn new(
        ar7: &'a Ar7,
        archive: &Path,
        directory: &'a Path,
        options: &[&str],
    ) -> Result<Mounted<'a>> {
        let mut arguments = vec!["mount".as_ref(), archive.as_os_str(), directory.as_os_str()];
        arguments.extend(options.iter().map(std::ffi::OsStr::new));
        arguments.push("--json".as_ref());
        let printed = ar7.expect(0, arguments)?.stdout;
        let document: Value = serde_json::from_str(&printed).unwrap_or_default();
        let process = document["process"].as_i64().and_then(|it| i32::try_from(it).ok());
        let process = process.and_then(Pid::from_raw);
        let process = process.ok_or(Error::Output { what: "mount", found: printed })?;
        Ok(Mounted { ar7, directory, process: Some(process) })
    }

    /// Kills the process, and removes what is left of the mount.
    fn kill(mut self) -> Result<()> {
        if let Some(process) = self.process {
            let killed = rustix::process::kill_process(process, Signal::KILL);
            killed
                .map_err(|error| Error::io("kill the server of", self.directory)(error.into()))?;
        }
        self.unmount(&["--lazy"])
    }

    fn unmount(&mut self, options: &[&str]) -> Result<()> {
        self.process = None;
        let mut arguments = vec!["unmount".as_ref(), self.directory.as_os_str()];
        arguments.extend(options.iter().map(std::ffi::OsStr::new));
        self.ar7.expect(0, arguments).map(drop)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.process.is_some() {
            // An error is being reported.
            let _ = self.unmount(&["--lazy"]);
        }
    }
}

fn fault(text: impl Into<String>) -> Error {
    Error::Fault(format!("mount-model: {}", text.into()))
}
