//! `ar7`: whole directory trees in one encrypted file.
//!
//! This crate is the command line: flags, progress and exit codes. Everything else is in the library `ar7`.
//!
//! It is a library so that fuzz targets can call the parsers. Its only public function is [`run`].

// No external event may make the command panic: neither input nor a closed standard error.
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
mod damages;
mod exit;
#[cfg(feature = "testing")]
pub mod fuzzing;
mod interrupt;
mod keys;
mod opened;
mod output;
mod progress;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use ar7::{ErrorClass, PathText};
use clap::FromArgMatches as _;

use self::arguments::{Arguments, program};
use self::exit::Failure;

/// Runs the command line of this process and returns its exit status.
pub fn run() -> ExitCode {
    ar7::hide_memory();
    let parsed = program().try_get_matches().and_then(|found| Arguments::from_arg_matches(&found));
    match parsed.as_ref().map(commands::run) {
        Ok((_, Ok(()))) => ExitCode::SUCCESS,
        Ok((path, Err(failure))) => report(path, &failure),
        Err(message) => print(message),
    }
}

/// Prints the failure of a command on an archive, and returns the exit code.
fn report(archive: &Path, failure: &Failure) -> ExitCode {
    match failure {
        // The reader of standard output closed the pipe, which is not an error.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        failure if failure.is_of_archive() => {
            output::warn(&format_args!("{}: {failure}", PathText::new(archive)));
        }
        failure => output::warn(failure),
    }
    ExitCode::from(failure.code().exit_code())
}

/// Prints the help, the version or a usage error.
fn print(message: &clap::Error) -> ExitCode {
    let printed = message.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(error) if !message.use_stderr() => report(Path::new(""), &Failure::Output(error)),
        _ if message.use_stderr() => ExitCode::from(ErrorClass::Argument.exit_code()),
        _ => ExitCode::SUCCESS,
    }
}
