//! Functions for the fuzz targets. A failure is returned as exit code and message.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use ar7::Receipt;
use clap::Parser;

use crate::arguments::Arguments;
use crate::commands;
use crate::exit::Failure;
use crate::shown::Shown;

/// Parses a command line, which starts with the program's name, and returns its debug form.
pub fn parse_arguments(arguments: &[OsString]) -> Result<String, (i32, String)> {
    match Arguments::try_parse_from(arguments) {
        Ok(parsed) => Ok(format!("{parsed:?}")),
        Err(error) => Err((error.exit_code(), error.to_string())),
    }
}

/// Parses a size in bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    crate::sizes::parse_size(text)
}

/// Parses the argument for a bare stream and returns its debug form.
pub fn parse_stream(text: &str) -> Result<String, (u8, String)> {
    let parsed = commands::content::parse_bare_stream(text);
    parsed.map(|stream| format!("{stream:?}")).map_err(|failure| outcome(&failure))
}

/// Parses a receipt from a file.
pub fn receipt_in_file(file: impl Read) -> Result<Receipt, (u8, String)> {
    commands::receipt::in_file(Path::new("file"), file).map_err(|failure| outcome(&failure))
}

/// Returns whether patterns exclude a path, or the message for a malformed pattern.
pub fn excludes(patterns: &[String], path: &Path) -> Result<bool, String> {
    commands::ingest::excludes(patterns, path).map_err(|failure| failure.to_string())
}

/// Formats the bytes of a name as messages show them.
pub fn shown(bytes: &[u8]) -> String {
    Shown(bytes).to_string()
}

/// Formats a time as listings show it.
pub fn time_text(seconds: i64, nanoseconds: u32) -> String {
    crate::sizes::time_text(ar7::Timestamp::new(seconds, nanoseconds))
}

/// Returns the exit code and the message of a failure.
fn outcome(failure: &Failure) -> (u8, String) {
    (failure.code().number(), failure.to_string())
}
