//! `cat`: writes an entry, or part of it, to standard output.

use std::os::unix::ffi::OsStrExt;

use ar7_engine::Error as EngineError;
use ar7_registry::{Error, Stream};

use super::content::{bare_stream, copy, file_inode};
use crate::arguments::{Cat, Common};
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Writes the requested bytes.
pub(crate) fn run(common: &Common, options: &Cat) -> Result<(), Failure> {
    let session = Session::read(common, &options.archive)?;
    let stream = match (&options.stream, &options.name) {
        (Some(text), _) => Some(bare_stream(&session, text)?),
        (None, Some(name)) => {
            let inode = file_inode(&session, name)?;
            let opened = inode.stream.map(|identity| session.archive.read_stream(identity));
            opened.transpose().map_err(|error| entry_error(options, error))?
        }
        (None, None) => None,
    };
    let mut output = Output::for_much();
    if let Some(stream) = stream {
        write(&stream, options, &mut output)?;
    }
    output.finish()
}

fn write(stream: &Stream, options: &Cat, output: &mut Output) -> Result<(), Failure> {
    let failed = |error| entry_error(options, error);
    let length = stream.len().map_err(failed)?;
    let end = options.length.map_or(length, |wanted| options.offset.saturating_add(wanted));
    let end = end.min(length);
    let range = options.offset.min(end)..end;
    copy(stream, range, &mut Vec::new(), failed, |bytes| output.write(bytes))
}

fn entry_error(options: &Cat, error: Error) -> Failure {
    // A truncated file is a fault of the archive, not of the entry.
    let is_of_file = matches!(error, Error::Engine(EngineError::Truncated { .. }));
    match options.name.as_ref().filter(|_| !is_of_file) {
        Some(name) => Failure::Entry { path: name.as_bytes().to_vec(), error },
        None => Failure::Archive { archive: options.archive.clone(), error },
    }
}
