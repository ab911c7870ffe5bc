//! `receipt`: a line that can be kept anywhere, and shows later that the archive is not an older copy.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ar7_engine::mistakes::Mistake;
use ar7_registry::{Error, Receipt};

use crate::arguments::{Common, ReceiptOptions};
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Prints a receipt of the newest commit.
pub(crate) fn run(common: &Common, options: &ReceiptOptions) -> Result<(), Failure> {
    let session = Session::read(common, &options.archive)?;
    let receipt = match session.archive.receipt() {
        // The last writer was killed. A writer makes sure that what it found is on disk.
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

/// The receipt on the command line, or in the file that it names.
pub(crate) fn given(argument: &OsStr) -> Result<Receipt, Failure> {
    if let Some(line) = argument.to_str().filter(|text| text.starts_with(Receipt::BEGINNING)) {
        return line.parse().map_err(Failure::Receipt);
    }
    let path = Path::new(argument);
    in_file(path, File::open(path).map_err(|error| Failure::file(path, "open", error))?)
}

/// The receipt that a file holds: one line, which may have an end. Of a file that is longer than any receipt only a
/// beginning is read, as it may be an archive or have no end.
pub(crate) fn in_file(path: &Path, file: impl Read) -> Result<Receipt, Failure> {
    let most = u64::try_from(2 * Receipt::LENGTH_MAX).expect("a small constant");
    let mut bytes = Vec::new();
    let read = file.take(most).read_to_end(&mut bytes);
    read.map_err(|error| Failure::file(path, "read", error))?;
    let text = String::from_utf8_lossy(&bytes);
    // A line that an editor kept has an end.
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let line = if Mistake::ReceiptsTrimmed.is_planted() { text.trim() } else { line };
    line.parse().map_err(Failure::Receipt)
}
