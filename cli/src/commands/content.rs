//! `cat` and `put`: content of entries and streams, from and to standard streams.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use ar7::uuid::Uuid;
use ar7::{Attributes, CommandOutput, CopyError, Error, File, Mode, PathText, Polled, Transaction};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use serde::Serialize;

use super::paths::{expand, in_entry, not_root};
use crate::arguments::{Cat, Common, Put};
use crate::exit::{Code, Failure};
use crate::opened::change;
use crate::output::{self, Output};
use crate::progress::Progress;

/// The number of reserved streams, which have the UUIDs from 0.
const RESERVED_STREAMS: u128 = 8;

/// The permissions of a new file.
const FILE_MODE: u32 = 0o644;

/// Parses the argument for a bare stream: one digit from `0` to `7` for a reserved stream, otherwise a UUID. Rejects
/// other spellings of a number, such as `+3` or `03`.
pub(crate) fn bare_stream(text: &str) -> Result<Uuid, Failure> {
    match text.parse::<u128>() {
        Ok(index) if index < RESERVED_STREAMS && text.len() == 1 => Ok(Uuid::from_u128(index)),
        _ => Uuid::parse_str(text).map_err(|_| Failure::NotAStream { text: text.to_owned() }),
    }
}

/// Writes entries, or part of one, to standard output.
pub(super) fn cat(common: &Common, options: &Cat) -> Result<(), Failure> {
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let mut output = Output::for_much();
    if let Some(text) = &options.stream {
        let stream = snapshot.stream(bare_stream(text)?)?;
        write(common, options, stream, &mut output, &Failure::from)?;
    }
    if let Some(pattern) = &options.name {
        let paths = expand(&snapshot, pattern)?;
        if paths.len() > 1 && (options.offset > 0 || options.length.is_some()) {
            let pattern = PathBuf::from(pattern);
            return Err(Failure::SeveralMatches { pattern, count: paths.len() });
        }
        let (is_only, mut bad) = (paths.len() == 1, 0);
        for path in paths {
            let file = snapshot.open(&path).map_err(in_entry(&path));
            let write = |file| write(common, options, file, &mut output, &in_entry(&path));
            match file.and_then(write) {
                // The other entries may be readable.
                Err(failure) if failure.code() == Code::Damaged && !is_only => {
                    output::warn(&failure);
                    bad += 1;
                }
                written => written?,
            }
        }
        if bad > 0 {
            output.finish()?;
            return Err(Failure::Findings { count: bad });
        }
    }
    output.finish()
}

/// Writes the requested part of a file or stream.
fn write(
    common: &Common,
    options: &Cat,
    mut file: File<'_>,
    output: &mut Output,
    failed: &dyn Fn(Error) -> Failure,
) -> Result<(), Failure> {
    let length = file.len().map_err(failed)?.saturating_sub(options.offset);
    let length = options.length.unwrap_or(u64::MAX).min(length);
    if length == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(options.offset)).map_err(|error| failed(error.into()))?;
    let progress = Progress::of_content(common, output.is_terminal);
    progress.set_total(length);
    let copied = ar7::copy(progress.reader(file.take(length)), output.writer());
    progress.finish();
    copied.map(drop).map_err(|error| match error {
        CopyError::Read(error) => failed(error.into()),
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
    if options.command.is_empty() && is_closed(io::stdin()) {
        return Err(Failure::ClosedInput);
    }
    let archive = common.writer_or_new(&options.archive, &options.slot)?;
    let progress = Progress::stoppable(common)?;
    let stored = change(archive, |transaction| match (&options.stream, &options.name) {
        (Some(text), _) => {
            let stream = transaction.stream(bare_stream(text)?, Mode::READ_WRITE)?;
            if !stream.is_empty()? && !options.force {
                return Err(Failure::Exists { path: text.into() });
            }
            store(stream, options, &progress)
        }
        (None, Some(name)) => put_entry(transaction, options, not_root(name)?, &progress),
        (None, None) => Ok(0),
    });
    progress.finish();
    let (name, stream) = (options.name.as_deref(), options.stream.as_deref());
    let stored =
        Stored { name: name.map(|name: &OsStr| PathText::new(name)), stream, bytes: stored? };
    output::report(common, &stored, None)
}

fn put_entry(
    transaction: &Transaction<'_>,
    options: &Put,
    path: &Path,
    progress: &Progress,
) -> Result<u64, Failure> {
    match transaction.metadata(path) {
        Ok(before) if before.is_directory() => {
            // Fails with the error for a directory.
            transaction.open(path, Mode::READ).map_err(in_entry(path))?;
        }
        Ok(_) if !options.force => return Err(Failure::Exists { path: path.into() }),
        // The other names of a file keep the old content, and so does the target of a link.
        Ok(before) if before.links > 1 || !before.is_file() => {
            transaction.remove(path).map_err(in_entry(path))?;
        }
        Ok(_) | Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(in_entry(path)(error)),
    }
    let file = transaction.open(path, Mode::WRITE).map_err(in_entry(path))?;
    let bytes = store(file, options, progress)?;
    let attributes = Attributes::of_process(FILE_MODE);
    transaction.set_attributes(path, attributes).map_err(in_entry(path))?;
    Ok(bytes)
}

/// Returns whether a standard stream was closed when the program started: the runtime opens `/dev/null` in its place,
/// for reading and writing, which no shell does.
fn is_closed(stream: impl AsFd) -> bool {
    let (Ok(null), Ok(found)) = (rustix::fs::stat("/dev/null"), fstat(&stream)) else {
        return false;
    };
    found.st_rdev == null.st_rdev
        && FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && fcntl_getfl(&stream).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// Replaces the content of a file or stream by the input. Returns the number of bytes.
fn store(mut file: File<'_>, options: &Put, progress: &Progress) -> Result<u64, Failure> {
    file.set_len(0)?;
    let copied = if let Some((program, arguments)) = options.command.split_first() {
        copy(CommandOutput::start(Command::new(program).args(arguments))?, &mut file, progress)
    } else {
        let input = io::stdin().as_fd().try_clone_to_owned().map_err(Failure::Input)?;
        copy(fs::File::from(input), &mut file, progress)
    };
    copied.map_err(|error| match error {
        _ if progress.is_stopped() => {
            Failure::Interrupted { done: "the archive is unchanged".to_owned() }
        }
        CopyError::Read(error) if options.command.is_empty() => Failure::Input(error),
        CopyError::Read(error) | CopyError::Write(error) => Error::from(error).into(),
    })
}

fn copy(
    input: impl Read + AsFd + Send,
    file: &mut File<'_>,
    progress: &Progress,
) -> Result<u64, CopyError> {
    let polled = Polled::new(input, || {
        progress.tick();
        progress.flow()
    });
    ar7::copy(progress.reader(polled), file)
}
