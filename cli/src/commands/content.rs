//! `cat` and `put`: content of entries and streams, from and to standard streams.

use std::fs;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use ar7::{
    Attributes, CommandOutput, CopyError, Error, ErrorClass, File, Mode, PathText, Polled,
    Transaction,
};
use ar7_arguments::{Cat, Common, Put};
use serde::Serialize;

use crate::damages::Damages;
use crate::exit::Failure;
use crate::opened::{self, change};
use crate::output::{self, Output};
use crate::progress::Progress;

/// The permissions of a new file.
const FILE_MODE: u32 = 0o644;

/// Writes entries, or part of one, to standard output.
pub(super) fn cat(common: &Common, path: &Path, options: &Cat) -> Result<(), Failure> {
    let snapshot = opened::reader(common, path)?.snapshot()?;
    let mut output = Output::new(common, false);
    ar7::enlarge_pipe(io::stdout());
    if let Some(stream) = &options.stream {
        let stream = snapshot.stream(stream.id)?;
        write(common, options, stream, &mut output)?;
    }
    let (mut damages, mut paths) = (Damages::default(), Vec::new());
    if let Some(pattern) = options.name.as_ref().map(Path::new) {
        paths = damages.matching(&snapshot, pattern)?;
        if paths.len() > 1 && (options.offset.0 > 0 || options.length.is_some()) {
            let (pattern, count) = (pattern.to_owned(), paths.len());
            return Err(Failure::SeveralMatches { pattern, count });
        }
    }
    let is_only = paths.len() == 1 && damages.check().is_ok();
    for path in &paths {
        let file = snapshot.open(path).map_err(Failure::from);
        match file.and_then(|file| write(common, options, file, &mut output)) {
            Err(Failure::Library(error)) => {
                let error = error.in_entry(path);
                if is_only {
                    return Err(error.into());
                }
                damages.readable::<()>(Err(error))?;
            }
            written => written?,
        }
    }
    output.flush()?;
    damages.check()
}

/// Writes the requested part of a file or stream.
fn write(
    common: &Common,
    options: &Cat,
    mut file: File<'_>,
    output: &mut Output,
) -> Result<(), Failure> {
    let length = file.len()?.saturating_sub(options.offset.0);
    let length = options.length.map_or(length, |most| most.0.min(length));
    if length == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(options.offset.0)).map_err(Error::from)?;
    let progress = Progress::of_content(common, output.is_terminal);
    progress.meter.set_total(length);
    let copied =
        ar7::copy_with(file.take(length), output.writer(), |bytes| progress.advance(bytes));
    progress.finish();
    copied.map(drop).map_err(|error| match error {
        CopyError::Read(error) => Error::from(error).into(),
        CopyError::Write(error) => Failure::Output(error),
    })
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    name: Option<PathText<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    bytes: u64,
}

/// Stores standard input or the output of a command. If it fails, the archive is as before.
pub(super) fn put(common: &Common, options: &Put) -> Result<(), Failure> {
    if options.command.is_empty() && ar7::was_closed_at_start(io::stdin()) {
        let text = "standard input is closed: use < /dev/null to store an empty entry";
        return Err(Failure::Refused { text, code: ErrorClass::Other });
    }
    let archive = opened::writer_or_new(common, &options.archive, &options.slot)?;
    let progress = Progress::stoppable(common)?;
    let stored = change(archive, |transaction| match (&options.stream, &options.name) {
        (Some(named), _) => {
            let stream = transaction.stream(named.id, Mode::READ_WRITE)?;
            if !stream.is_empty()? && !options.force {
                return Err(Failure::Exists { path: named.text.clone().into() });
            }
            store(stream, options, &progress)
        }
        (None, Some(name)) => put_entry(transaction, options, Path::new(name), &progress),
        (None, None) => Ok(0),
    });
    progress.finish();
    let name = options.name.as_ref().map(PathText::new);
    let stream = options.stream.as_ref().map(|stream| &*stream.text);
    output::report(common, &Stored { name, stream, bytes: stored? }, None)
}

fn put_entry(
    transaction: &Transaction<'_>,
    options: &Put,
    path: &Path,
    progress: &Progress,
) -> Result<u64, Failure> {
    let before = transaction.metadata(path);
    if !options.force && before.is_ok_and(|before| !before.is_directory()) {
        return Err(Failure::Exists { path: path.into() });
    }
    let file = transaction.replace(path).map_err(|error| error.in_entry(path))?;
    let bytes = store(file, options, progress)?;
    transaction.compress(path, options.compression)?;
    let attributes = Attributes::of_process(FILE_MODE);
    transaction.set_attributes(path, attributes).map_err(|error| error.in_entry(path))?;
    Ok(bytes)
}

/// Replaces the content of a file or stream by the input. Returns the number of bytes.
fn store(mut file: File<'_>, options: &Put, progress: &Progress) -> Result<u64, Failure> {
    file.set_len(0)?;
    let copied = if let Some((program, arguments)) = options.command.split_first() {
        copy(CommandOutput::start(Command::new(program).args(arguments))?, &mut file, progress)
    } else {
        let input = io::stdin().as_fd().try_clone_to_owned().map_err(Failure::input)?;
        copy(fs::File::from(input), &mut file, progress)
    };
    copied.map_err(|error| match error {
        _ if progress.is_stopped() => {
            Failure::Interrupted { done: "the archive is unchanged".to_owned() }
        }
        CopyError::Read(error) if options.command.is_empty() => Failure::input(error),
        CopyError::Read(error) | CopyError::Write(error) => Error::from(error).into(),
    })
}

fn copy(
    input: impl Read + AsFd + Send,
    file: &mut File<'_>,
    progress: &Progress,
) -> Result<u64, CopyError> {
    let polled = Polled::new(input, || progress.flow());
    ar7::copy_with(polled, file, |bytes| progress.advance(bytes))
}
