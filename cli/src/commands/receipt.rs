//! `receipt`: prints a line that later detects an older copy of the archive, or a fork.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ar7::{Error, Receipt};
use serde_json::json;

use crate::arguments::{Common, ReceiptOptions};
use crate::exit::Failure;
use crate::opened::Opened;
use crate::output::Output;

/// Prints a receipt for the newest commit.
pub(crate) fn run(common: &Common, options: &ReceiptOptions) -> Result<(), Failure> {
    let opened = Opened::read(common, &options.archive)?;
    let receipt = match opened.archive.receipt() {
        // The last writer was killed before it was certain that its commit was on disk. A new writer makes sure that it
        // is.
        Err(Error::NotSynced) => {
            drop(opened);
            let opened = Opened::write(common, &options.archive)?;
            opened.archive.reclaim().map_err(opened.named())?;
            let receipt = opened.archive.receipt().map_err(opened.named())?;
            opened.finish()?;
            receipt
        }
        outcome => outcome.map_err(opened.named())?,
    };
    let mut output = Output::new();
    if common.json {
        return output.document(&json!({ "receipt": receipt.to_string() }));
    }
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

/// Parses the receipt in a file.
pub(crate) fn in_file(path: &Path, file: impl Read) -> Result<Receipt, Failure> {
    Receipt::read(file).map_err(|error| match error {
        error @ Error::Io { .. } => Failure::Library { archive: path.to_owned(), error },
        error => Failure::Receipt(error),
    })
}
