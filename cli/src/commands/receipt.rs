//! `receipt`: prints a line that later detects an older copy of the archive, or a fork.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ar7_registry::{Error, Receipt};

use crate::arguments::{Common, ReceiptOptions};
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Prints a receipt for the newest commit.
pub(crate) fn run(common: &Common, options: &ReceiptOptions) -> Result<(), Failure> {
    let session = Session::read(common, &options.archive)?;
    let receipt = match session.archive.receipt() {
        // The last writer was killed before it was certain that its commit was on disk. A new writer makes sure that it
        // is.
        Err(Error::NotSynced) => {
            drop(session);
            let session = Session::write(common, &options.archive)?;
            session.archive.reclaim().map_err(session.named())?;
            let receipt = session.archive.receipt().map_err(session.named())?;
            session.finish()?;
            receipt
        }
        outcome => outcome.map_err(session.named())?,
    };
    let mut output = Output::new();
    output.line(&receipt.to_string())?;
    output.finish()
}

/// Parses the receipt of an argument: the line itself, or a file that contains it.
pub(crate) fn given(argument: &OsStr) -> Result<Receipt, Failure> {
    if let Some(line) = argument.to_str().filter(|text| text.starts_with(Receipt::BEGINNING)) {
        return line.parse().map_err(Failure::Receipt);
    }
    let path = Path::new(argument);
    in_file(path, File::open(path).map_err(|error| Failure::file(path, "open", error))?)
}

/// Parses the receipt in a file: one line, with or without a line break. Reads no more than the longest receipt needs,
/// because the file may be an archive or endless.
pub(crate) fn in_file(path: &Path, file: impl Read) -> Result<Receipt, Failure> {
    let most = 2 * Receipt::LENGTH_MAX as u64;
    let mut bytes = Vec::new();
    let read = file.take(most).read_to_end(&mut bytes);
    read.map_err(|error| Failure::file(path, "read", error))?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    line.parse().map_err(Failure::Receipt)
}
