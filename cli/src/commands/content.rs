//! `cat` and `put`: content of entries and streams, from and to standard streams.

use std::fs;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use ar7::uuid::Uuid;
use ar7::{
    Attributes, CommandOutput, CopyError, Error, ErrorClass, File, Mode, PathText, Polled,
    Transaction,
};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use serde::Serialize;

use crate::arguments::{Cat, Common, Put};
use crate::damages::Damages;
use crate::exit::Failure;
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
pub(super) fn cat(common: &Common, path: &Path, options: &Cat) -> Result<(), Failure> {
    let snapshot = common.reader(path)?.snapshot()?;
    let mut output = Output::for_much(common);
    if let Some(text) = &options.stream {
        let stream = snapshot.stream(bare_stream(text)?)?;
        write(common, options, stream, &mut output)?;
    }
    let mut damages = Damages::default();
    let pattern = options.name.as_ref().map(Path::new);
    let paths = pattern.map(|pattern| damages.matching(&snapshot, pattern)).transpose()?;
    let paths = paths.unwrap_or_default();
    if paths.len() > 1 && (options.offset.0 > 0 || options.length.is_some()) {
        let pattern = pattern.unwrap_or(Path::new("")).to_owned();
        return Err(Failure::SeveralMatches { pattern, count: paths.len() });
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
    let copied = ar7::copy(progress.reader(file.take(length)), output.writer());
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
    if options.command.is_empty() && is_closed(io::stdin()) {
        let text = "standard input is closed: use < /dev/null to store an empty entry";
        return Err(Failure::Refused { text, code: ErrorClass::Other });
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
        (None, Some(name)) => put_entry(transaction, options, Path::new(name), &progress),
        (None, None) => Ok(0),
    });
    progress.finish();
    let (name, stream) = (options.name.as_ref().map(PathText::new), options.stream.as_deref());
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
    let polled = Polled::new(input, || progress.flow());
    ar7::copy(progress.reader(polled), file)
}
