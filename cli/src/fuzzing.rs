//! Functions for the fuzz targets. A failure is returned as exit code and message.

use std::ffi::OsString;

use ar7::uuid::Uuid;
use clap::Parser;

use crate::arguments::Arguments;
use crate::commands;

/// Parses a command line, which starts with the program's name, and returns its debug form.
pub fn parse_arguments(arguments: &[OsString]) -> Result<String, (i32, String)> {
    match Arguments::try_parse_from(arguments) {
        Ok(parsed) => Ok(format!("{parsed:?}")),
        Err(error) => Err((error.exit_code(), error.to_string())),
    }
}

/// Parses the argument for a bare stream.
pub fn parse_stream(text: &str) -> Result<Uuid, (u8, String)> {
    commands::bare_stream(text).map_err(|failure| (failure.code().exit_code(), failure.to_string()))
}
