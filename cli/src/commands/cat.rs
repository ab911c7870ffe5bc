//! `cat`: writes entries, or part of one, to standard output.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use ar7::{CopyError, Error, File};

use super::content::parse_bare_stream;
use super::paths::{expand, in_entry};
use crate::arguments::{Cat, Common};
use crate::exit::Failure;
use crate::opened::{Opened, at};
use crate::output::Output;
use crate::progress::{Counts, Progress};

/// Writes the requested bytes.
pub(crate) fn run(common: &Common, options: &Cat) -> Result<(), Failure> {
    let opened = Opened::read(common, &options.archive)?;
    let snapshot = opened.snapshot()?;
    let mut output = Output::for_much();
    if let Some(text) = &options.stream {
        let stream = snapshot.stream(parse_bare_stream(text)?.uuid()).map_err(opened.named())?;
        write(common, options, (stream, None), &mut output)?;
        return output.finish();
    }
    let Some(pattern) = &options.name else { return Ok(()) };
    let paths = expand(&snapshot, pattern)?;
    if paths.len() > 1 && (options.offset > 0 || options.length.is_some()) {
        let pattern = PathBuf::from(pattern);
        return Err(Failure::SeveralMatches { pattern, count: paths.len() });
    }
    for path in paths {
        let file = snapshot.open(&path).map_err(in_entry(&path))?;
        write(common, options, (file, Some(&path)), &mut output)?;
    }
    output.finish()
}

/// Writes the requested part of a file or stream.
fn write(
    common: &Common,
    options: &Cat,
    (mut file, path): (File<'static>, Option<&Path>),
    output: &mut Output,
) -> Result<(), Failure> {
    let failed = |error| match path {
        // A truncated file is a fault of the archive, not of the entry.
        Some(path) if !matches!(error, Error::Truncated { .. }) => in_entry(path)(error),
        _ => at(&options.archive)(error),
    };
    let length = file.len().map_err(&failed)?.saturating_sub(options.offset);
    let length = options.length.unwrap_or(u64::MAX).min(length);
    if length == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(options.offset)).map_err(|error| failed(error.into()))?;
    // On a terminal, a bar would disturb the content.
    let progress = (!output.is_terminal).then(|| Progress::new(common, Counts::Bytes));
    let copied = match &progress {
        Some(progress) => {
            progress.set_total(length);
            ar7::copy(progress.wrap_read(file.take(length)), output.writer())
        }
        None => ar7::copy(file.take(length), output.writer()),
    };
    if let Some(progress) = progress {
        progress.finish();
    }
    copied.map(drop).map_err(|error| match error {
        CopyError::Read(error) => failed(error.into()),
        CopyError::Write(error) => Failure::Output(error),
    })
}
