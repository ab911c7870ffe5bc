//! `ar7`: whole directory trees in one encrypted file.
//!
//! The command line: flags, keys, files and progress. The archive itself is in `ar7-registry` and `ar7-engine`.
//!
//! This is a library so that fuzz targets can call the parsers and the extraction. Its public function is [`run`].

// Nothing that the outside decides may end the command with a panic: neither input nor a lost standard error.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

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
mod read_ahead;
mod session;
mod shown;
mod sizes;
mod stderr;
mod walk;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use self::arguments::Arguments;
use self::exit::{Code, Failure};

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    // No core dump, and no other process of the same user may read the memory of this one. Systems without this call
    // still leave the keys out of dumps: their pages are marked for that.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    match Arguments::try_parse() {
        Ok(arguments) => match commands::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => exit::report(&failure),
        },
        Err(message) => print(&message),
    }
}

/// Prints the help, the version or an error of usage.
fn print(message: &clap::Error) -> ExitCode {
    let printed = message.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(error) if !message.use_stderr() => exit::report(&Failure::Output(error)),
        _ if message.use_stderr() => ExitCode::from(Code::Usage.number()),
        _ => ExitCode::SUCCESS,
    }
}
