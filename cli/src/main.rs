//! `ar7`: whole directory trees in one encrypted file.
//!
//! This program runs commands, and shows progress, results and exit codes. The flags and what they mean are in
//! `ar7-arguments`, and everything else is in the library `ar7`.

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

mod commands;
mod damages;
mod exit;
mod interrupt;
mod keys;
mod opened;
mod output;
mod progress;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use ar7::{ErrorClass, PathText};
use ar7_arguments::Arguments;

use self::exit::Failure;

fn main() -> ExitCode {
    ar7::hide_memory();
    let parsed = Arguments::parse_line(std::env::args_os());
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
