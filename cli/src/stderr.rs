//! Lines on standard error. If it is not writable the work continues, because a lost message must not cost a backup.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes a line.
pub(crate) fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes a failure, preceded by the program's name.
pub(crate) fn failure(failure: &impl Display) {
    line(&format!("ar7: {failure}"));
}

/// Writes text.
pub(crate) fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
