//! `cargo xtask mount-programs`: real programs on a mounted archive.
//!
//! - `git` clones this repository, collects its garbage and checks it; `cargo` builds a small crate.
//! - `sqlite3` makes transactions while the process that serves the mount is killed. Each transaction whose commit has
//!   returned is there afterwards, all of the last one or nothing, and the database is whole.
//! - `fio` writes at random, through the page cache, past it and through memory, and verifies what it reads.
//! - `rsync` copies an odd tree in and out, and finds no difference.
//!
//! Each reads the archive again through a new mount, and the archive verifies. A program that is not installed is
//! skipped.

mod builds;
mod place;
mod random_writes;
mod transactions;
mod trees;

use std::path::Path;
use std::time::Instant;

use clap::Args;
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::quantity::seconds;
use xtask::workspace::built_program;

use self::place::{Work, is_installed};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Less work of each program
    #[arg(long)]
    sample: bool,
    /// Only this program
    #[arg(long, value_name = "PROGRAM")]
    only: Option<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program that the tests built, instead of a new one in release
    #[arg(long)]
    tested: bool,
}

/// A program, and what it does. That returns what it has done, or why it is skipped.
type Program = (&'static str, fn(&Work<'_>) -> Result<String>);

const PROGRAMS: [Program; 5] = [
    ("git", builds::git),
    ("cargo", builds::cargo),
    ("sqlite3", transactions::run),
    ("fio", random_writes::run),
    ("rsync", trees::run),
];

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    if !Path::new("/dev/fuse").exists() {
        println!("mount-programs: skipped: no /dev/fuse");
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("ar7-mount-programs-").tempdir();
    let folder = folder.map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let ar7 = if options.tested {
        Ar7::at(&built_program("debug", "ar7")?, folder.path())?
    } else {
        Ar7::build(folder.path())?
    };
    let (is_sample, seed) = (options.sample, options.seed);
    let work = Work { ar7: &ar7, folder: folder.path(), is_sample, seed };
    let is_chosen = |name| options.only.as_deref().is_none_or(|only| only == name);
    for (name, program) in PROGRAMS.into_iter().filter(|(name, _)| is_chosen(*name)) {
        let begun = Instant::now();
        let done = if is_installed(name) {
            program(&work).map_err(|error| Error::Fault(format!("{name} on a mount: {error}")))?
        } else {
            "skipped: it is not installed".to_owned()
        };
        println!("mount-programs: {name}: {done}, {}", seconds(begun.elapsed()));
    }
    println!("mount-programs: seed {seed}, {}: no fault", seconds(started.elapsed()));
    Ok(())
}
