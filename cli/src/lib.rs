//! `ar7`: whole directory trees in one encrypted file.
//!
//! The command line is glue: flags, keys, progress, and the one table of exit codes. What an archive
//! is and does is the business of `ar7-registry` and of `ar7-engine` below it.
//!
//! It is a library beside the program so that the fuzz targets reach its parsers and its extraction. Its one function
//! for everybody else is [`run`].

mod arguments;
mod commands;
mod exit;
#[cfg(feature = "testing")]
pub mod fuzzing;
mod interrupt;
mod json;
mod keys;
mod names;
mod output;
mod progress;
mod session;
mod sizes;
mod walk;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    // No core dump, and no other process of the same user looks into this one's memory. Where the system does not know
    // this, the keys are in pages that it is asked to leave out of dumps.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let arguments = arguments::Arguments::parse();
    match commands::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::report(&failure),
    }
}
