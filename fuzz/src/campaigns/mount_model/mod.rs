//! `cargo xtask mount-model`: random operations on a mounted archive.
//!
//! - Threads do the same operations on the mount and on a directory of the host, each thread below a directory of its
//!   own. Both must have the same outcome: the same error, status, bytes and names. Files are also mapped, and open for
//!   direct I/O. The archive must verify, and hold the same tree after it was unmounted.
//! - Processes that serve a mount are killed: half of them at random in time, the others before, in and after each write
//!   and sync of the archive, one after the other, and there also as by a power cut. The archive must then verify, and be
//!   in the state after one of the operations: not before the last one that an fsync or msync had covered, and with
//!   content that agrees with the names.

mod history;
mod kill;
mod killer;
mod mapping;
mod open_files;
mod outcome;
mod pair;
mod state;
mod worker;

use std::path::Path;
use std::time::Instant;

use clap::Args;
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
        "mount-model: {} kills, {} at a write of the archive and {} at a sync, left {} states: {} of the last operation, \
         {} operations were lost",
        kills.count, kills.writes, kills.syncs, kills.states, kills.whole, kills.lost
    );
    println!("mount-model: seed {}, {}: no fault", options.seed, seconds(started.elapsed()));
    Ok(())
}

fn fault(text: impl Into<String>) -> Error {
    Error::Fault(format!("mount-model: {}", text.into()))
}
