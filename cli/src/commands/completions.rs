//! `completions` and `man`: files for shells and packagers, from the table of commands and flags.

use crate::arguments::{Completions, Man, program};
use crate::exit::Failure;
use crate::output::Output;

/// Prints the completion script for a shell.
pub(crate) fn completions(options: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut program(), "ar7", &mut script);
    let mut output = Output::new();
    output.write(&script)?;
    output.finish()
}

/// Writes a page of the manual for each command into a directory.
pub(crate) fn man(options: &Man) -> Result<(), Failure> {
    let failed = |operation| move |error| Failure::file(&options.directory, operation, error);
    std::fs::create_dir_all(&options.directory).map_err(failed("create"))?;
    clap_mangen::generate_to(program(), &options.directory).map_err(failed("write"))
}
